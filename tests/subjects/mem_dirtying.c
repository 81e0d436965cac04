/*
 * Memory that is written all the time. One thread writes the round's number
 * into page after page, so at any instant the pages before the writer hold
 * this round's number and the others the last one's: a page that came over
 * too old, or too new, breaks the order.
 */
#include "subject.h"

#define PAGES 2048UL

static uint64_t *memory;
static volatile int stop;

static void expect_step(uint64_t round, size_t writing)
{
	for (size_t page = 0; page < PAGES; page++) {
		uint64_t want = page < writing ? round : round - 1;

		for (size_t word = 0; word < PAGE / 8; word += 511)
			EXPECT(memory[page * PAGE / 8 + word] == want,
			       "page %zu (writer at %zu) word %zu: expected %llu, got %llu", page, writing, word,
			       (unsigned long long)want, (unsigned long long)memory[page * PAGE / 8 + word]);
	}
}

static void *writer(void *unused)
{
	uint64_t round = 1;

	(void)unused;
	while (!stop) {
		expect_step(round, 0);
		for (size_t page = 0; page < PAGES; page++) {
			memory[page * PAGE / 8] = round;
			memory[page * PAGE / 8 + 511] = round;
			if (page % 512 == 511)
				expect_step(round, page + 1);
		}
		round++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	memory = map_anonymous(PAGES * PAGE);
	pthread_t thread = start_thread(writer, NULL);
	ready();
	await_check();
	pause_ms(50);
	stop = 1;
	pthread_join(thread, NULL);
	passed();
}
