/* Two hundred threads, each with its own ID, name, mask, thread-local storage and counter that goes on. */
#include "subject.h"

#define COUNT 200

static __thread uint64_t local[64];
static volatile uint64_t counter[COUNT];
static volatile int started;

static void *thread(void *number)
{
	int i = (int)(uintptr_t)number;
	char name[16], after[16];
	sigset_t mask, got;
	pid_t id = (pid_t)syscall(SYS_gettid);

	fill(local, sizeof local, i);
	snprintf(name, sizeof name, "thread %d", i);
	NEED(prctl(PR_SET_NAME, name) == 0);
	sigemptyset(&mask);
	sigaddset(&mask, 34 + i % 30);
	sigaddset(&mask, i % 2 ? SIGUSR1 : SIGHUP);
	NEED(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	while (!check_wanted()) {
		counter[i]++;
		pause_ms(20);
	}
	EXPECT_EQ("the thread's ID", syscall(SYS_gettid), id);
	expect_filled("thread-local storage", local, sizeof local, i);
	EXPECT_OK(prctl(PR_GET_NAME, after));
	EXPECT(strcmp(name, after) == 0, "the thread's name: expected %s, got %s", name, after);
	EXPECT_EQ("pthread_sigmask", pthread_sigmask(SIG_SETMASK, NULL, &got), 0);
	for (int signal = 1; signal <= 64; signal++)
		EXPECT(sigismember(&got, signal) == sigismember(&mask, signal), "thread %d: mask of signal %d changed", i,
		       signal);
	counter[i] += 1000000;
	return number;
}

int main(int argc, char **argv)
{
	pthread_t threads[COUNT];
	pthread_attr_t attributes;

	begin(argc, argv);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 << 10);
	for (int i = 0; i < COUNT; i++)
		NEED(pthread_create(&threads[i], &attributes, thread, (void *)(uintptr_t)i) == 0);
	while (started < COUNT)
		pause_ms(1);
	ready();
	await_check();
	for (int i = 0; i < COUNT; i++) {
		void *value = NULL;

		EXPECT_EQ("pthread_join", pthread_join(threads[i], &value), 0);
		EXPECT_EQ("the thread's value", (uintptr_t)value, i);
		EXPECT(counter[i] > 1000000, "thread %d did not go on", i);
	}
	passed();
}
