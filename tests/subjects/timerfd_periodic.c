/* Timers that are read all the time while the process moves: no expiration is lost, none comes twice or early. */
#include "timerfd.h"

#define PERIOD (5 * MS)

static volatile int stopped;

struct reader { int fd; clockid_t clock; int64_t began; volatile uint64_t ticks; };

static void *read_all(void *argument)
{
	struct reader *reader = argument;

	while (!stopped) {
		reader->ticks += take_ticks(reader->fd);
		int64_t periods = (clock_ns(reader->clock) - reader->began) / PERIOD;
		EXPECT((int64_t)reader->ticks <= periods, "%llu expirations in %lld periods", (unsigned long long)reader->ticks,
		       (long long)periods);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct reader readers[2] = { { .clock = CLOCK_MONOTONIC }, { .clock = CLOCK_BOOTTIME } };
	pthread_t threads[2];

	begin(argc, argv);
	for (int i = 0; i < 2; i++) {
		readers[i].fd = timerfd_create(readers[i].clock, TFD_CLOEXEC);
		NEED(readers[i].fd >= 0);
		readers[i].began = clock_ns(readers[i].clock);
		set_timer(readers[i].fd, i ? TFD_TIMER_ABSTIME : 0, (i ? readers[i].began : 0) + PERIOD, PERIOD);
		threads[i] = start_thread(read_all, &readers[i]);
	}
	pause_ms(30);
	ready();
	await_check();

	pause_ms(100);
	for (int i = 0; i < 2; i++) {
		uint64_t before = readers[i].ticks;
		for (int ms = 0; ms < 10000 && readers[i].ticks < before + 10; ms++)
			pause_ms(1);
		int64_t periods = (clock_ns(readers[i].clock) - readers[i].began) / PERIOD;
		/* Each move may put it off by what the image is on its way. */
		EXPECT(periods - (int64_t)readers[i].ticks < 100, "%llu expirations in %lld periods", (unsigned long long)readers[i].ticks,
		       (long long)periods);
	}
	stopped = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	passed();
}
