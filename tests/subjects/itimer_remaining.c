/* What is left of all three interval timers neither grows nor is lost; a timer that is not set stays so. */
#include "subject.h"
#include <sys/time.h>

static int64_t us(struct timeval time)
{
	return time.tv_sec * 1000000LL + time.tv_usec;
}

int main(int argc, char **argv)
{
	struct itimerval set[3] = { { { 7, 5000 }, { 1000, 0 } }, { { 0, 0 }, { 2000, 0 } }, { { 3, 4000 }, { 3000, 0 } } }, before[3], after;

	begin(argc, argv);
	for (int i = 0; i < 3; i++)
		NEED(setitimer(i, &set[i], NULL) == 0);
	pause_ms(100);
	for (int i = 0; i < 3; i++)
		NEED(getitimer(i, &before[i]) == 0);
	int64_t started = now_us(CLOCK_REALTIME);
	ready();
	await_check();

	int64_t took = now_us(CLOCK_REALTIME) - started;
	for (int i = 0; i < 3; i++) {
		EXPECT_OK(getitimer(i, &after));
		EXPECT_EQ("interval in us", us(after.it_interval), us(set[i].it_interval));
		/* The kernel adds a tick whenever a CPU-time timer is set (set_cpu_itimer), so each move may add one. */
		EXPECT(us(after.it_value) > 0 && us(after.it_value) <= us(before[i].it_value) + 200000, "timer %d: had %lld us left, now %lld", i,
		       (long long)us(before[i].it_value), (long long)us(after.it_value));
		EXPECT(us(after.it_value) >= us(before[i].it_value) - took - 500000, "timer %d: had %lld us left, now %lld", i,
		       (long long)us(before[i].it_value), (long long)us(after.it_value));
	}
	/* The time that passed before the move stays counted. */
	EXPECT_OK(getitimer(ITIMER_REAL, &after));
	EXPECT(us(after.it_value) <= 1000000000LL - 100000 + 20000, "the real-time timer began anew: %lld us left", (long long)us(after.it_value));
	passed();
}
