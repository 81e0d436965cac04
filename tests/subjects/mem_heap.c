/* The heap: brk goes on where it was, malloc's areas (main and a thread's) go on being used. */
#include "subject.h"

#define BLOCKS 500

static char *block[BLOCKS];

static size_t size_of(int i)
{
	return 16 + (i * 7919 % 5000 & ~7);
}

static void *allocate(void *first)
{
	for (int i = (int)(uintptr_t)first; i < BLOCKS; i += 2) {
		block[i] = malloc(size_of(i));
		NEED(block[i] != NULL);
		fill(block[i], size_of(i), i);
	}
	return NULL;
}

static void *check_and_free(void *first)
{
	for (int i = (int)(uintptr_t)first; i < BLOCKS; i += 2) {
		expect_filled("allocated block", block[i], size_of(i), i);
		block[i] = realloc(block[i], size_of(i) * 3);
		EXPECT(block[i] != NULL, "realloc failed");
		expect_filled("block after realloc", block[i], size_of(i), i);
		free(block[i]);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	allocate((void *)0);
	pthread_t thread = start_thread(allocate, (void *)1);
	pthread_join(thread, NULL);
	char *mine = sbrk(3 * PAGE);
	NEED(mine != (void *)-1);
	fill(mine, 3 * PAGE, 9000);
	/* Not at a page's end: the exact break is the process's to see. */
	NEED(sbrk(123) != (void *)-1);
	void *break_before = sbrk(0);
	ready();
	await_check();

	EXPECT_EQ("the break", sbrk(0), break_before);
	expect_filled("memory from sbrk", mine, 3 * PAGE, 9000);
	EXPECT_EQ("sbrk's answer", sbrk(64 * PAGE), break_before);
	expect_zero("memory that brk added", (char *)(((uintptr_t)break_before + PAGE) & ~(PAGE - 1)), 63 * PAGE);
	EXPECT_EQ("the break after growing", sbrk(0), (char *)break_before + 64 * PAGE);
	EXPECT_OK((intptr_t)sbrk(-64 * (intptr_t)PAGE));
	EXPECT_EQ("the break after shrinking", sbrk(0), break_before);
	pthread_join(start_thread(check_and_free, (void *)0), NULL);
	check_and_free((void *)1);
	passed();
}
