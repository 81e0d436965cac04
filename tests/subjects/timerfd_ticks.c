/* Expirations that nobody has read yet, of timers that go on and of one that does not; one that expires while the process moves. */
#include "timerfd.h"

#define PERIOD (20 * MS)

static void expect_in_step(const char *what, int fd, int64_t began)
{
	int64_t before = (clock_ns(CLOCK_MONOTONIC) - began) / PERIOD;
	uint64_t ticks = take_ticks(fd);
	int64_t after = (clock_ns(CLOCK_MONOTONIC) - began) / PERIOD;

	/* Where the clock need not be made to go on, what the image takes from one host to the other is not told: one may come later by so much. */
	EXPECT((int64_t)ticks <= after && (int64_t)ticks >= before - 1, "%s: %llu expirations in %lld to %lld periods", what,
	       (unsigned long long)ticks, (long long)before, (long long)after);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int once = timerfd_create(CLOCK_MONOTONIC, 0), unread = timerfd_create(CLOCK_MONOTONIC, 0);
	int asked = timerfd_create(CLOCK_BOOTTIME, 0), absolute = timerfd_create(CLOCK_REALTIME, 0), fast = timerfd_create(CLOCK_MONOTONIC, 0);
	int on_the_way = timerfd_create(CLOCK_MONOTONIC, 0);
	NEED(once >= 0 && unread >= 0 && asked >= 0 && absolute >= 0 && fast >= 0 && on_the_way >= 0);
	int64_t began = clock_ns(CLOCK_MONOTONIC);
	set_timer(once, 0, 1, 0);
	set_timer(unread, TFD_TIMER_ABSTIME, began + PERIOD, PERIOD);
	set_timer(asked, 0, PERIOD, PERIOD);
	set_timer(absolute, TFD_TIMER_ABSTIME, clock_ns(CLOCK_REALTIME) + PERIOD, PERIOD);
	set_timer(fast, 0, 1, 1000);
	pause_ms(50);
	/* The kernel counts what was missed when it is asked. */
	get_timer(asked);
	NEED(holds_ticks(once) == 1 && holds_ticks(asked) >= 2);
	set_timer(on_the_way, 0, 30 * MS, 0);
	ready();
	await_check();

	EXPECT_EQ("expirations of the one that expires once", take_ticks(once), 1);
	EXPECT_EQ("what is left of it", to_ns(get_timer(once).it_value), 0);
	expect_in_step("never asked", unread, began);
	expect_in_step("asked", asked, began);
	expect_in_step("absolute", absolute, began);
	EXPECT_EQ("expirations of the one that was due on the way", take_ticks(on_the_way), 1);
	uint64_t ticks = take_ticks(fast);
	EXPECT(ticks > 10000, "the fast one: %llu expirations", (unsigned long long)ticks);
	/* Each goes on. */
	EXPECT(take_ticks(unread) >= 1 && take_ticks(asked) >= 1 && take_ticks(absolute) >= 1 && take_ticks(fast) >= 1, "none");
	passed();
}
