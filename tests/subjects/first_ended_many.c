/* The same with sixty threads, of which a probe tells at once, each with its own ID, name and mask. */
#include "first_ended.h"

#define COUNT 60

static pthread_t threads[COUNT];
static volatile int started;
static volatile uint64_t counter[COUNT];

static void *thread(void *number)
{
	int i = (int)(uintptr_t)number;
	char name[16], after[16];
	sigset_t mask, got;
	pid_t id = (pid_t)syscall(SYS_gettid);

	snprintf(name, sizeof name, "thread %d", i);
	NEED(prctl(PR_SET_NAME, name) == 0);
	sigemptyset(&mask);
	sigaddset(&mask, 34 + i % 30);
	NEED(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	while (!check_wanted()) {
		counter[i]++;
		pause_ms(20);
	}
	EXPECT_EQ("the thread's ID", syscall(SYS_gettid), id);
	EXPECT_OK(prctl(PR_GET_NAME, after));
	EXPECT(strcmp(name, after) == 0, "the thread's name: expected %s, got %s", name, after);
	EXPECT_EQ("pthread_sigmask", pthread_sigmask(SIG_SETMASK, NULL, &got), 0);
	EXPECT_EQ("its signal", sigismember(&got, 34 + i % 30), 1);
	return number;
}

static void *last(void *unused)
{
	(void)unused;
	await_end_of_first();
	while (started < COUNT)
		pause_ms(1);
	ready();
	await_check();
	expect_first_ended();
	for (int i = 0; i < COUNT; i++) {
		void *value = NULL;

		EXPECT_EQ("pthread_join", pthread_join(threads[i], &value), 0);
		EXPECT_EQ("the thread's value", (uintptr_t)value, i);
	}
	passed();
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	for (int i = 0; i < COUNT; i++)
		NEED(pthread_create(&threads[i], NULL, thread, (void *)(uintptr_t)i) == 0);
	start_thread(last, NULL);
	be_the_first();
	pthread_exit(NULL);
}
