/*
 * POSIX timers of every clock and notify kind: ID, signal, value, target, interval, and what is left, which neither grows nor is lost;
 * one that is not set stays so.
 */
#include "timer.h"

#define SECONDS 1000000000LL
#define LEFT (1000 * SECONDS)
#define INTERVAL (7 * SECONDS + 5)

static char before[8192], after[8192];
static volatile pid_t other;

static void *sleeper(void *unused)
{
	(void)unused;
	other = (pid_t)syscall(SYS_gettid);
	await_check();
	pause_ms(2000);
	return NULL;
}

int main(int argc, char **argv)
{
	struct { int clock, notify, id; int64_t left; } timers[24];
	size_t count = 0;

	begin(argc, argv);
	start_thread(sleeper, NULL);
	while (other == 0)
		pause_ms(1);
	int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID, CLOCK_OF_THREAD(other) };
	int kinds[] = { SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID };
	for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++)
		for (size_t k = 0; k < 3; k++) {
			/* Holes among the IDs. */
			int hole = make_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
			int id = make_timer(clocks[i], kinds[k], SIGRTMIN + (int)k, 0x1111222233334444 + count, other);
			NEED(syscall(SYS_timer_delete, hole) == 0);
			NEED(set_timer(id, 0, LEFT + count * SECONDS, k == 1 ? INTERVAL : 0) == 0);
			timers[count].clock = clocks[i];
			timers[count].notify = kinds[k];
			timers[count].left = LEFT + count * SECONDS;
			timers[count++].id = id;
		}
	/* An absolute one, and one that libc sets up without an event. */
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int absolute = make_timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN, 1, 0), plain = -1;
	NEED(set_timer(absolute, TIMER_ABSTIME, to_ns(now) + LEFT, 0) == 0);
	NEED(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &plain) == 0);
	int64_t started = to_ns(now);
	read_whole("/proc/self/timers", before, sizeof before - 1);
	ready();
	await_check();

	read_whole("/proc/self/timers", after, sizeof after - 1);
	EXPECT(strcmp(before, after) == 0, "were:\n%s\nare:\n%s", before, after);
	clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < count; i++) {
		struct itimerspec is = get_timer(timers[i].id);
		/* Of CPU time, nobody here uses much. */
		int on_cpu = timers[i].clock < 0 || timers[i].clock == CLOCK_PROCESS_CPUTIME_ID;
		int64_t left = to_ns(is.it_value), most = timers[i].left, least = on_cpu ? most - 20 * SECONDS : most - (to_ns(now) - started) - SECONDS;

		EXPECT_EQ("the interval", to_ns(is.it_interval), timers[i].notify == SIGEV_NONE ? INTERVAL : 0);
		EXPECT(left <= most && left >= least, "timer %d of clock %d: %lld ns are left, not %lld to %lld", timers[i].id, timers[i].clock,
		       (long long)left, (long long)least, (long long)most);
	}
	/* What it was set to is still when it is due. */
	int64_t due = to_ns(now) + to_ns(get_timer(absolute).it_value) - started - LEFT;
	EXPECT(due < SECONDS / 4 && due > -SECONDS / 4, "due %lld ns later than was set", (long long)due);
	EXPECT_EQ("a timer that is not set", to_ns(get_timer(plain).it_value), 0);
	/* New ones get IDs of their own. */
	int fresh = try_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	EXPECT(fresh > plain, "a new timer has ID %d, the last one had %d", fresh, plain);
	passed();
}
