/* POSIX timers that have expired, and whose signals nobody has taken yet: each comes once, to whom it was sent, with what it carries. */
#include "timer.h"

#define MS 1000000LL

static int once, periodic, to_thread, later, again;
static volatile int set_up, main_done;

static void expect_signal(siginfo_t info, int signal, int id, uint64_t value)
{
	EXPECT_EQ("the signal", info.si_signo, signal);
	EXPECT_EQ("si_code", info.si_code, SI_TIMER);
	EXPECT_EQ("si_timerid", info.si_timerid, id);
	EXPECT_EQ("si_value", info.si_value.sival_ptr, value);
}

static void *thread(void *unused)
{
	(void)unused;
	to_thread = make_timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 2, 33, (pid_t)syscall(SYS_gettid));
	NEED(set_timer(to_thread, 0, 1, 0) == 0);
	set_up = 1;
	while (!main_done)
		pause_ms(1);
	expect_signal(take_signal(signals_from(SIGRTMIN + 2, SIGRTMIN + 2), 0), SIGRTMIN + 2, to_thread, 33);
	EXPECT_EQ("one more signal of the thread", take_signal(signals_from(SIGRTMIN + 2, SIGRTMIN + 2), 0).si_signo, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t all;

	begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pthread_t other = start_thread(thread, NULL);
	while (!set_up)
		pause_ms(1);
	once = make_timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN, 11, 0);
	periodic = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 22, 0);
	later = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3, 44, 0);
	again = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 4, 55, 0);
	int cpu = make_timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 5, 66, 0);
	NEED(set_timer(once, 0, 1, 0) == 0 && set_timer(later, 0, 1000000 * MS, 0) == 0);
	NEED(set_timer(periodic, 0, 1, 20 * MS) == 0 && set_timer(again, 0, 1, 0) == 0 && set_timer(cpu, TIMER_ABSTIME, 1, 0) == 0);
	sigset_t waiting;
	do {
		pause_ms(1);
		sigpending(&waiting);
	} while (!sigismember(&waiting, SIGRTMIN) || !sigismember(&waiting, SIGRTMIN + 1) || !sigismember(&waiting, SIGRTMIN + 4) ||
		 !sigismember(&waiting, SIGRTMIN + 5));
	/* Its signal is of the time before, and the kernel (6.13) drops it. */
	NEED(set_timer(again, 0, 1000000 * MS, 0) == 0);
	int64_t began = now_us(CLOCK_MONOTONIC);
	ready();
	await_check();

	expect_signal(take_signal(signals_from(SIGRTMIN, SIGRTMIN), 0), SIGRTMIN, once, 11);
	EXPECT_EQ("one more signal of a timer that expires once", take_signal(signals_from(SIGRTMIN, SIGRTMIN), 0).si_signo, 0);
	EXPECT_EQ("what is left of it", to_ns(get_timer(once).it_value), 0);
	expect_signal(take_signal(signals_from(SIGRTMIN + 5, SIGRTMIN + 5), 0), SIGRTMIN + 5, cpu, 66);
	EXPECT_EQ("one more signal of CPU time", take_signal(signals_from(SIGRTMIN + 5, SIGRTMIN + 5), 0).si_signo, 0);

	/* At any time only one signal of a timer waits; what comes next is no sooner than the interval allows. */
	siginfo_t info = take_signal(signals_from(SIGRTMIN + 1, SIGRTMIN + 1), 0);
	int64_t periods = (now_us(CLOCK_MONOTONIC) - began) / 20000 + 2;
	expect_signal(info, SIGRTMIN + 1, periodic, 22);
	EXPECT(info.si_overrun >= 0 && info.si_overrun <= periods, "missed %d in %lld periods", info.si_overrun, (long long)periods);
	for (int i = 0; i < 3; i++)
		expect_signal(take_signal(signals_from(SIGRTMIN + 1, SIGRTMIN + 1), 5000), SIGRTMIN + 1, periodic, 22);
	EXPECT_OK(syscall(SYS_timer_delete, periodic));
	take_signal(signals_from(SIGRTMIN + 1, SIGRTMIN + 1), 0);

	for (int i = 3; i < 5; i++) {
		EXPECT_EQ("the signal of a timer that is not due", take_signal(signals_from(SIGRTMIN + i, SIGRTMIN + i), 0).si_signo, 0);
		int64_t left = to_ns(get_timer(i == 3 ? later : again).it_value);
		EXPECT(left > 0 && left <= 1000000 * MS, "%lld ns are left", (long long)left);
	}
	main_done = 1;
	pthread_join(other, NULL);
	passed();
}
