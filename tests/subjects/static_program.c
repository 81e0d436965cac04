/* A statically linked program: no interpreter, no libraries, its own heap, thread-local storage and vDSO. */
#include "subject.h"
#include <sys/auxv.h>

static __thread uint64_t local = 77;

static void *thread(void *unused)
{
	(void)unused;
	local = 78;
	await_check();
	EXPECT_EQ("the thread's own variable", local, 78);
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *memory = malloc(1 << 20);
	NEED(memory != NULL);
	fill(memory, 1 << 20, 1);
	pthread_t other = start_thread(thread, NULL);
	int64_t started = now_us(CLOCK_MONOTONIC);
	local = 79;
	ready();
	await_check();

	pthread_join(other, NULL);
	EXPECT_EQ("the main thread's own variable", local, 79);
	expect_filled("memory", memory, 1 << 20, 1);
	free(memory);
	memory = malloc(1 << 24);
	EXPECT(memory != NULL, "malloc: %s", strerror(errno));
	fill(memory, 1 << 24, 2);
	EXPECT(now_us(CLOCK_MONOTONIC) > started, "the clock went back");
	EXPECT(getauxval(AT_SYSINFO_EHDR) != 0, "no vDSO");
	passed();
}
