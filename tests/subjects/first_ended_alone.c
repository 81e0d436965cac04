/*
 * The same with one thread alone that goes on, and a status with which the first one has ended: it would be the process's. What CPU time
 * that has used is a part of the process's, which goes on where there is the kernel module.
 */
#include "first_ended.h"

static uint64_t *memory;
static int file;

static int64_t used_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1000000000LL + used.tv_nsec;
}

static void *nothing(void *unused)
{
	return unused;
}

static void *alone(void *unused)
{
	char text[64] = "";

	int64_t used;

	(void)unused;
	await_end_of_first();
	used = used_ns();
	fill(memory, 16 * PAGE, 1);
	ready();
	await_check();
	expect_first_ended();
	EXPECT(used_ns() >= used || access("/dev/migrate", F_OK) != 0, "it had used %lld ns, and has used %lld", (long long)used,
	       (long long)used_ns());
	expect_filled("memory", memory, 16 * PAGE, 1);
	EXPECT_EQ("the file's offset", lseek(file, 0, SEEK_CUR), 5);
	EXPECT(pread(file, text, 5, 0) == 5 && strcmp(text, "begun") == 0, "the file: %s", text);
	/* One that is made now can be waited for. */
	EXPECT_EQ("pthread_join of a new thread", pthread_join(start_thread(nothing, NULL), NULL), 0);
	passed();
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	memory = map_anonymous(16 * PAGE);
	file = open(path_of("file"), O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0666);
	NEED(file >= 0 && write(file, "begun", 5) == 5);
	start_thread(alone, NULL);
	be_the_first();
	while (used_ns() < 300000000)
		;
	syscall(SYS_exit, 42);
}
