/* How often a POSIX timer was missed while its signal waited is told when that is taken over there, and what timer_getoverrun(2) said it says. */
#include "timer.h"

#define MS 1000000LL
#define INTERVAL (20 * MS)

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return to_ns(now);
}

int main(int argc, char **argv)
{
	sigset_t all;

	begin(argc, argv);
	if (access("/dev/migrate", F_OK) != 0)
		skipped("only the kernel module tells it (docs/kmod.md)");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	int waiting = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 11, 0);
	int asked = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 22, 0);
	int taken = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 2, 33, 0);
	int64_t first = now_ns();
	NEED(set_timer(waiting, TIMER_ABSTIME, first, INTERVAL) == 0 && set_timer(asked, TIMER_ABSTIME, first, INTERVAL) == 0);
	NEED(set_timer(taken, TIMER_ABSTIME, first, INTERVAL) == 0);
	pause_ms(50 * INTERVAL / MS);
	/* Asked for, it is moved on, and what it has missed is counted. */
	get_timer(asked);
	siginfo_t info = take_signal(signals_from(SIGRTMIN + 2, SIGRTMIN + 2), 0);
	NEED(info.si_signo == SIGRTMIN + 2 && info.si_overrun >= 49);
	int overrun = info.si_overrun;
	NEED(syscall(SYS_timer_getoverrun, taken) == overrun);
	ready();
	await_check();

	EXPECT_EQ("timer_getoverrun", syscall(SYS_timer_getoverrun, taken), overrun);
	for (int i = 0; i < 2; i++) {
		int64_t before = (now_ns() - first) / INTERVAL;
		info = take_signal(signals_from(SIGRTMIN + i, SIGRTMIN + i), 0);
		int64_t after = (now_ns() - first) / INTERVAL;
		EXPECT_EQ("the signal", info.si_signo, SIGRTMIN + i);
		EXPECT_EQ("its timer", info.si_timerid, i == 0 ? waiting : asked);
		/* It may be set anew a little earlier or later. */
		EXPECT(info.si_overrun >= before - 1 && info.si_overrun <= after + 1, "timer %d: missed %d times, and not %lld to %lld", i,
		       info.si_overrun, (long long)before, (long long)after);
		EXPECT_EQ("timer_getoverrun of it", syscall(SYS_timer_getoverrun, i == 0 ? waiting : asked), info.si_overrun);
	}
	passed();
}
