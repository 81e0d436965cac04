/*
 * Many timers, so that one or another is just due when the process stands still: half of them expire again and again, half are set
 * anew each time they have expired. None stops.
 */
#include "timerfd.h"
#include <sys/epoll.h>

#define TIMERS 8
#define PERIOD (4 * MS)

static volatile int stopped;
static struct timer { int fd; volatile uint64_t ticks; } timers[TIMERS];

static void *read_all(void *argument)
{
	int set = *(int *)argument;
	struct epoll_event ready[TIMERS];

	while (!stopped) {
		int count = epoll_wait(set, ready, TIMERS, 100);
		EXPECT_OK(count);
		for (int i = 0; i < count; i++) {
			struct timer *timer = &timers[ready[i].data.u32];
			timer->ticks += take_ticks(timer->fd);
			if (ready[i].data.u32 % 2)
				set_timer(timer->fd, 0, PERIOD, 0);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int set = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned int i = 0; i < TIMERS; i++) {
		struct epoll_event wanted = { .events = EPOLLIN, .data.u32 = i };
		NEED((timers[i].fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) >= 0);
		NEED(epoll_ctl(set, EPOLL_CTL_ADD, timers[i].fd, &wanted) == 0);
		/* Spread over the time that they have. */
		set_timer(timers[i].fd, 0, PERIOD + i * PERIOD / TIMERS, i % 2 ? 0 : PERIOD);
	}
	pthread_t thread = start_thread(read_all, &set);
	ready();
	await_check();

	for (int i = 0; i < TIMERS; i++) {
		uint64_t before = timers[i].ticks;
		for (int ms = 0; timers[i].ticks == before; ms++) {
			EXPECT(ms < 5000, "timer %d has stopped after %llu expirations", i, (unsigned long long)before);
			pause_ms(1);
		}
	}
	stopped = 1;
	pthread_join(thread, NULL);
	passed();
}
