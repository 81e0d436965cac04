/*
 * 64 MiB that two threads write as fast as they can: faster than any link.
 * Page after page gets the round's number, so at any instant the pages before
 * a writer hold this round's number and the others the last one's. Meanwhile
 * other threads make calls that must never return EINTR, nor too early: a
 * process that does not get its memory copied may be slowed down for it.
 */
#include "subject.h"
#include <poll.h>
#include <sys/epoll.h>

#define PAGES 8192UL
#define WORDS (PAGE / 8)

static uint64_t *memory;
static volatile int stop;

static void *writer(void *argument)
{
	uint64_t *half = argument;

	for (uint64_t round = 1; !stop; round++) {
		uint64_t first = half[0];

		EXPECT(first == round - 1 && half[PAGES * WORDS - 1] == first, "round %llu found %llu and %llu",
		       (unsigned long long)round, (unsigned long long)first,
		       (unsigned long long)half[PAGES * WORDS - 1]);
		for (size_t page = 0; page < PAGES; page++) {
			uint64_t *words = half + page * WORDS;

			EXPECT(words[7] == round - 1, "page %zu: expected %llu, got %llu", page,
			       (unsigned long long)round - 1, (unsigned long long)words[7]);
			for (size_t word = 0; word < WORDS; word++)
				words[word] = round;
		}
	}
	return NULL;
}

static void *calls(void *unused)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;
	sigset_t none;

	(void)unused;
	sigemptyset(&none);
	NEED(epoll >= 0);
	while (!stop) {
		struct timespec time = { 0, 3000000 };
		int64_t started = now_us(CLOCK_MONOTONIC);
		int got = epoll_wait(epoll, &event, 1, 5);

		EXPECT(got == 0, "epoll_wait: %d (%s)", got, strerror(errno));
		EXPECT(now_us(CLOCK_MONOTONIC) - started >= 4900, "epoll_wait returned early");
		got = sigtimedwait(&none, NULL, &time);
		EXPECT(got == -1 && errno == EAGAIN, "sigtimedwait: %d (%s)", got, strerror(errno));
		got = poll(NULL, 0, 2);
		EXPECT(got == 0, "poll: %d (%s)", got, strerror(errno));
		got = clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 0, 1000000 }, NULL);
		EXPECT(got == 0, "clock_nanosleep: %s", strerror(got));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[3];

	begin(argc, argv);
	memory = map_anonymous(2 * PAGES * PAGE);
	threads[0] = start_thread(writer, memory);
	threads[1] = start_thread(writer, memory + PAGES * WORDS);
	threads[2] = start_thread(calls, NULL);
	ready();
	await_check();
	pause_ms(50);
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	passed();
}
