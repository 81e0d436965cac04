/*
 * Shared anonymous memory that is written while it moves, in times of quiet through its one mapping, else in every other way too:
 * through mappings that come and go, by children that have ended again, with pages taken out. Each thread has an object of its own,
 * and knows what every page of it must hold.
 *
 *   mem_shared_random DIRECTORY [SEED]     with a seed it forks, too: a child in the wrong moment makes a move be refused
 */
#include "subject.h"
#include <sys/wait.h>

#define WORKERS 2
#define PAGES 3000UL
#define SIZE (PAGES * PAGE)
#define RW (PROT_READ | PROT_WRITE)

struct world {
	int number;
	uint64_t random, tags;
	char *base, *other;
	/* 0: zeros. */
	uint64_t tag[PAGES];
	const char *did[PAGES];
	const char *doing;
	unsigned count;
};

static struct world worlds[WORKERS];
static volatile int stop;
static int forks;

static size_t stretch(struct world *w, size_t *i)
{
	size_t n = 1 + any(&w->random, any(&w->random, 4) ? 4 : 200);

	*i = any(&w->random, PAGES - n);
	return n;
}

static void put(struct world *w, size_t i, uint64_t tag)
{
	w->tag[i] = tag;
	w->did[i] = w->doing;
}

/* Through a mapping whose first byte is the object's page `first`. */
static void write_through(struct world *w, char *mapping, size_t first, size_t i, size_t n)
{
	for (size_t k = i; k < i + n; k++) {
		put(w, k, (uint64_t)(w->number + 1) << 48 | ++w->tags);
		fill(mapping + (k - first) * PAGE, PAGE, w->tag[k]);
	}
}

static void check_pages(struct world *w, const char *mapping, size_t i, size_t n)
{
	for (size_t k = i; k < i + n; k++) {
		const uint64_t *words = (const uint64_t *)(mapping + k * PAGE);

		for (size_t word = 0; word < PAGE / 8; word++)
			EXPECT(words[word] == (w->tag[k] ? pattern(w->tag[k], word) : 0),
			       "thread %d, after %u operations, in %s: page %zu at %p (last: %s; tag %llx): word %zu is %llx", w->number,
			       w->count, w->doing, k, words, w->did[k], (unsigned long long)w->tag[k], word,
			       (unsigned long long)words[word]);
	}
}

static void write_some(struct world *w)
{
	size_t i, n = stretch(w, &i);

	write_through(w, w->base, 0, i, n);
}

static void check(struct world *w)
{
	size_t i, n = stretch(w, &i);

	check_pages(w, w->base, i, n);
	if (w->other)
		check_pages(w, w->other, i, n);
}

/* An old size of zero maps the same pages once more (mremap(2)). */
static void write_elsewhere(struct world *w)
{
	size_t i, n = stretch(w, &i);
	char *there = mremap(w->base + i * PAGE, 0, n * PAGE, MREMAP_MAYMOVE);

	EXPECT(there != MAP_FAILED, "map once more: %s", strerror(errno));
	write_through(w, there, i, i, n);
	EXPECT_OK(munmap(there, n * PAGE));
}

static void have_two(struct world *w)
{
	if (w->other) {
		EXPECT_OK(munmap(w->other, SIZE));
		w->other = NULL;
		return;
	}
	w->other = mremap(w->base, 0, SIZE, MREMAP_MAYMOVE);
	EXPECT(w->other != MAP_FAILED, "map all once more: %s", strerror(errno));
}

static void write_other(struct world *w)
{
	size_t i, n = stretch(w, &i);

	write_through(w, w->other ? w->other : w->base, 0, i, n);
}

static void take_out(struct world *w)
{
	size_t i, n = stretch(w, &i);

	EXPECT_OK(madvise(w->base + i * PAGE, n * PAGE, MADV_REMOVE));
	for (size_t k = i; k < i + n; k++)
		put(w, k, 0);
	/* Read, it is there again, and nothing but zeros has ever been written. */
	if (any(&w->random, 2))
		check_pages(w, w->base, i, n);
}

/* Nothing is lost: the object has the pages. */
static void give_back(struct world *w)
{
	size_t i, n = stretch(w, &i);

	EXPECT_OK(madvise(w->base + i * PAGE, n * PAGE, MADV_DONTNEED));
}

static void move(struct world *w)
{
	char *to = map_anonymous(SIZE);

	EXPECT(mremap(w->base, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "move: %s", strerror(errno));
	w->base = to;
}

static void protect(struct world *w)
{
	size_t i, n = stretch(w, &i);

	EXPECT_OK(mprotect(w->base + i * PAGE, n * PAGE, PROT_READ));
	check_pages(w, w->base, i, n);
	EXPECT_OK(mprotect(w->base + i * PAGE, n * PAGE, RW));
}

static void have_child_write(struct world *w)
{
	size_t i, n = stretch(w, &i);
	int status;

	if (!forks)
		return;
	for (size_t k = i; k < i + n; k++)
		put(w, k, (uint64_t)(w->number + 1) << 48 | ++w->tags);
	pid_t child = fork();
	EXPECT(child >= 0, "fork: %s", strerror(errno));
	if (child == 0) {
		for (size_t k = i; k < i + n; k++)
			fill(w->base + k * PAGE, PAGE, w->tag[k]);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0, "a child ended with %x", status);
}

static const struct {
	const char *name;
	void (*act)(struct world *);
} ways[] = {
	{ "write", write_some }, { "check", check }, { "write elsewhere", write_elsewhere }, { "have two", have_two },
	{ "write other", write_other }, { "take out", take_out }, { "give back", give_back }, { "move", move },
	{ "protect", protect }, { "have a child write", have_child_write },
};

static void *work(void *world)
{
	struct world *w = world;
	int64_t until = 0;
	int quiet = 0;

	while (!stop) {
		if (now_us(CLOCK_MONOTONIC) > until) {
			/* One other thing now and then is harder to see than many. */
			quiet = any(&w->random, 4) ? 2 + any(&w->random, 100) : 0;
			until = now_us(CLOCK_MONOTONIC) + 20000 + any(&w->random, 100000);
		}
		size_t odd = quiet == 0 ? any(&w->random, 8) == 0 : any(&w->random, 40UL * quiet) == 0;
		size_t i = odd ? 2 + any(&w->random, sizeof ways / sizeof *ways - 2) : any(&w->random, 2);

		w->doing = ways[i].name;
		w->count++;
		ways[i].act(w);
		if (any(&w->random, 16) == 0)
			pause_ms(1);
	}
	w->doing = "the end";
	check_pages(w, w->base, 0, PAGES);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread[WORKERS];
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;

	begin(argc, argv);
	forks = argc > 2;
	for (int i = 0; i < WORKERS; i++) {
		struct world *w = &worlds[i];

		w->number = i;
		w->random = pattern(seed, i) | 1;
		w->base = mmap(NULL, SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		NEED(w->base != MAP_FAILED);
		w->doing = "the beginning";
		write_through(w, w->base, 0, 0, PAGES / 2);
	}
	for (int i = 0; i < WORKERS; i++)
		thread[i] = start_thread(work, &worlds[i]);
	ready();
	await_check();
	stop = 1;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	passed();
}
