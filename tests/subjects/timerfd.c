/*
 * Timers of every clock: what is left, which neither grows nor is lost, the interval, absolute ones, one that is cancelled when the clock is
 * set, one that is not set; flags; a duplicate.
 */
#include "timerfd.h"

#define LEFT (1000 * SECONDS)
#define INTERVAL (7 * SECONDS + 5)

static struct timer { int fd, clock, flags; int64_t interval, due; } timers[32];
static int count;

static int plain_clock(int clock)
{
	return clock == CLOCK_REALTIME_ALARM ? CLOCK_REALTIME : clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : clock;
}

static void make(int clock, int flags, int64_t interval)
{
	int fd = timerfd_create(clock, 0);

	if (fd < 0 && errno == EPERM)
		return; /* alarm clocks take CAP_WAKE_ALARM */
	NEED(fd >= 0);
	int64_t now = clock_ns(plain_clock(clock)), left = LEFT + count * SECONDS;
	set_timer(fd, flags, (flags & TFD_TIMER_ABSTIME ? now : 0) + left, interval);
	timers[count++] = (struct timer){ fd, clock, flags, interval, now + left };
}

int main(int argc, char **argv)
{
	int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM };

	begin(argc, argv);
	for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
		make(clocks[i], 0, 0);
		make(clocks[i], 0, INTERVAL);
		make(clocks[i], TFD_TIMER_ABSTIME, 0);
		make(clocks[i], TFD_TIMER_ABSTIME, INTERVAL);
	}
	make(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 0);
	int unset = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), stopped = timerfd_create(CLOCK_REALTIME, 0);
	NEED(unset >= 0 && stopped >= 0);
	/* An interval stays with one that is not set. */
	set_timer(stopped, TFD_TIMER_ABSTIME, 0, INTERVAL);
	int another = dup(timers[0].fd);
	NEED(another >= 0);
	ready();
	await_check();

	for (int i = 0; i < count; i++) {
		struct itimerspec is = get_timer(timers[i].fd);
		int64_t late = clock_ns(plain_clock(timers[i].clock)) + to_ns(is.it_value) - timers[i].due;

		EXPECT_EQ("the interval", to_ns(is.it_interval), timers[i].interval);
		/* Clocks of two hosts, and what the image took from one to the other. */
		EXPECT(late < SECONDS / 4 && late > -SECONDS / 4, "timer %d of clock %d, flags %d, is due %lld ns later than was set", i,
		       timers[i].clock, timers[i].flags, (long long)late);
	}
	EXPECT_EQ("flags", fcntl(unset, F_GETFL), O_RDWR | O_NONBLOCK);
	EXPECT_EQ("close-on-exec", fcntl(unset, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("what is left of one that is not set", to_ns(get_timer(unset).it_value), 0);
	uint64_t ticks;
	EXPECT(read(unset, &ticks, 8) == -1 && errno == EAGAIN, "it has expired, or blocks");
	EXPECT_EQ("what is left of one that is not set", to_ns(get_timer(stopped).it_value), 0);
	EXPECT_EQ("its interval", to_ns(get_timer(stopped).it_interval), INTERVAL);
	set_timer(another, 0, 0, 0);
	EXPECT_EQ("what is left of the duplicate's", to_ns(get_timer(timers[0].fd).it_value), 0);
	passed();
}
