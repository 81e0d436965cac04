/*
 * POSIX timers that go on while the process moves: one of a handler, one of a thread that waits for it. Neither expires more often than
 * its period allows, or out of step.
 */
#include "timer.h"

#define MS 1000000LL
#define PERIOD_MS 20

static volatile int by_handler, by_waiting;
static volatile int stopped;
static int64_t began;

/* Of its signals, and what the kernel says was missed, there can be no more than whole periods since the beginning. */
static void count(volatile int *counter, int missed, const char *what)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t periods = (to_ns(now) - began) / (PERIOD_MS * MS);

	*counter += 1 + missed;
	if (*counter > periods)
		failed("%s: %d expiries in %lld periods", what, *counter, (long long)periods);
}

static void handler(int signal, siginfo_t *info, void *unused)
{
	(void)signal, (void)unused;
	count(&by_handler, info->si_overrun, "the handler's");
}

static volatile pid_t waiter;

static void *waiting(void *unused)
{
	(void)unused;
	waiter = (pid_t)syscall(SYS_gettid);
	while (!stopped) {
		siginfo_t info = take_signal(signals_from(SIGRTMIN + 1, SIGRTMIN + 1), 10000);
		EXPECT_EQ("the signal waited for", info.si_signo, SIGRTMIN + 1);
		count(&by_waiting, info.si_overrun, "the waiting thread's");
	}
	return NULL;
}

static void wait_for(volatile int *counter, int more, const char *what)
{
	int before = *counter;

	for (int i = 0; i < 10000 && *counter < before + more; i++)
		pause_ms(1);
	EXPECT(*counter >= before + more, "%s: %d more expiries in ten seconds", what, *counter - before);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct timespec now;

	begin(argc, argv);
	/* The handler runs in the first thread: in the other one it would interrupt the wait. */
	sigset_t blocked = signals_from(SIGRTMIN, SIGRTMIN + 1), handled_here = signals_from(SIGRTMIN, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	pthread_t thread = start_thread(waiting, NULL);
	while (waiter == 0)
		pause_ms(1);
	sigprocmask(SIG_UNBLOCK, &handled_here, NULL);
	NEED(sigaction(SIGRTMIN, &action, NULL) == 0);
	int handled = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 1, 0);
	int waited = make_timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 1, 2, waiter);
	clock_gettime(CLOCK_MONOTONIC, &now);
	began = to_ns(now);
	/* The first of these is due after one period. */
	NEED(set_timer(handled, TIMER_ABSTIME, began + PERIOD_MS * MS, PERIOD_MS * MS) == 0);
	NEED(set_timer(waited, TIMER_ABSTIME, began + PERIOD_MS * MS, PERIOD_MS * MS) == 0);
	wait_for(&by_handler, 2, "the handler's");
	wait_for(&by_waiting, 2, "the waiting thread's");
	ready();
	await_check();

	wait_for(&by_handler, 10, "the handler's");
	wait_for(&by_waiting, 10, "the waiting thread's");
	stopped = 1;
	pthread_join(thread, NULL);
	passed();
}
