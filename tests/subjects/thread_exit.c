/* clear_child_tid: a thread that ends after the move wakes whoever joins it, before and after. */
#include "subject.h"

#define COUNT 8

static void *address_before[COUNT];

static void *tid_address(void)
{
	void *address = NULL;

	EXPECT_OK(prctl(PR_GET_TID_ADDRESS, &address));
	return address;
}

static void *thread(void *number)
{
	int i = (int)(uintptr_t)number;

	address_before[i] = tid_address();
	await_check();
	pause_ms(5 * i);
	EXPECT(tid_address() == address_before[i], "clear_child_tid of thread %d changed", i);
	return (void *)(uintptr_t)(1000 + i);
}

static pthread_t threads[COUNT];

static void *joiner(void *unused)
{
	(void)unused;
	/* In pthread_join while the process moves. */
	for (int i = 0; i < COUNT / 2; i++) {
		void *value = NULL;

		EXPECT_EQ("pthread_join", pthread_join(threads[i], &value), 0);
		EXPECT_EQ("the thread's value", (uintptr_t)value, 1000 + i);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	for (int i = 0; i < COUNT; i++)
		threads[i] = start_thread(thread, (void *)(uintptr_t)i);
	pthread_t joining = start_thread(joiner, NULL);
	pause_ms(20);
	ready();
	await_check();
	for (int i = COUNT / 2; i < COUNT; i++)
		EXPECT_EQ("pthread_join", pthread_join(threads[i], NULL), 0);
	EXPECT_EQ("pthread_join of the joining thread", pthread_join(joining, NULL), 0);
	/* And a new one. */
	void *value = NULL;
	address_before[0] = NULL;
	EXPECT_EQ("pthread_join of a new thread", pthread_join(start_thread(thread, (void *)0), &value), 0);
	EXPECT_EQ("a new thread's value", (uintptr_t)value, 1000);
	passed();
}
