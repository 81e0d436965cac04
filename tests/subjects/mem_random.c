/*
 * Memory that changes at random, in every way that there is, while it moves. Each thread has a window of addresses of its own, and
 * knows what every page of it must hold: the page's tag. So a page that was lost, or came over too old, is found here.
 *
 *   mem_random DIRECTORY [SEED]     with a seed it forks, too: a child in the wrong moment makes a move be refused
 */
#include "subject.h"
#include <sys/wait.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define WORKERS 3
#define WINDOW 3072UL
#define HUGE 512UL
#define FIRST_ADDRESS 0x10000000000UL
#define BETWEEN 0x40000000UL
#define OBJECTS 8
#define OBJECT_PAGES 96UL
#define FILE_PAGES 256UL
#define FILE_SEED 0xf11e0000ULL
#define HEAP_PAGES 400UL
#define RW (PROT_READ | PROT_WRITE)

enum kind { NOTHING, ANON, SHARED, OF_FILE };
static const char *const kinds[] = { "nothing", "private", "shared", "file" };

struct page {
	/* What it holds: pattern(tag), 0: zeros, or the file's page. Of shared memory the object knows. */
	uint64_t tag;
	/* Pages of one number come from one mapping. */
	uint32_t unit;
	/* Its place in its object or file. */
	uint32_t offset;
	/* Which operation was the last, and its count. */
	const char *did;
	uint32_t when;
	uint8_t kind, prot, object;
	/* Under MADV_GUARD_INSTALL. */
	uint8_t guard;
	/* After MADV_FREE: as it was, or zeros. */
	uint8_t lazy;
};

struct world {
	int number;
	uint64_t random;
	char *base;
	struct page page[WINDOW];
	uint64_t shared[OBJECTS][OBJECT_PAGES];
	uint32_t units, count;
	uint64_t tags;
	const char *doing;
	size_t heap_pages;
	uint64_t heap[HEAP_PAGES];
};

static struct world worlds[WORKERS];
static volatile int stop;
static int file, forks;
static char *heap;

static char *at(struct world *w, size_t i)
{
	return w->base + i * PAGE;
}

static uint64_t new_tag(struct world *w)
{
	return (uint64_t)(w->number + 1) << 48 | ++w->tags;
}

static uint64_t *tag_of(struct world *w, size_t i)
{
	struct page *p = &w->page[i];

	return p->kind == SHARED ? &w->shared[p->object][p->offset] : &p->tag;
}

static void note(struct world *w, size_t i, size_t n)
{
	for (size_t k = i; k < i + n; k++) {
		w->page[k].did = w->doing;
		w->page[k].when = w->count;
	}
}

/* A stretch of pages: mostly few, sometimes many, sometimes a huge page. */
static void choose(struct world *w, size_t *i, size_t *n)
{
	uint64_t size = any(&w->random, 16);

	*n = size < 10 ? 1 + any(&w->random, 8) : size < 14 ? 1 + any(&w->random, 100) : HUGE;
	*i = *n == HUGE ? any(&w->random, WINDOW / HUGE) * HUGE : any(&w->random, WINDOW - *n);
}

static int like(const struct page *a, const struct page *b)
{
	return b->unit == a->unit && b->kind == a->kind && b->prot == a->prot && b->object == a->object;
}

/* A stretch out of one mapping. 0: there is none where it looked. */
static size_t choose_mapped(struct world *w, size_t *i)
{
	size_t n, length = 1;

	for (int tries = 0; tries < 4; tries++) {
		choose(w, i, &n);
		if (w->page[*i].kind != NOTHING)
			break;
	}
	if (w->page[*i].kind == NOTHING)
		return 0;
	while (length < n && like(&w->page[*i], &w->page[*i + length]) &&
	       (w->page[*i].kind == ANON || w->page[*i + length].offset == w->page[*i].offset + length))
		length++;
	return length;
}

static size_t without_guards(struct world *w, size_t i, size_t n)
{
	size_t length = 0;

	while (length < n && !w->page[i + length].guard)
		length++;
	return length;
}

/* A stretch that can be written. */
static size_t choose_writable(struct world *w, size_t *i)
{
	size_t n = choose_mapped(w, i);

	return n && w->page[*i].prot == RW ? without_guards(w, *i, n) : 0;
}

static void __attribute__((noreturn)) wrong(struct world *w, size_t i, const char *what, size_t word)
{
	struct page *p = &w->page[i];
	uint64_t is[PAGE / 8] = { 0 };
	struct iovec here = { is, PAGE }, there = { at(w, i), PAGE };

	process_vm_readv(getpid(), &here, 1, &there, 1, 0);
	failed("thread %d, after %u operations, in %s: page %zu at %p (%s, last: %s at %u; tag %llx, unit %u, protection %d, "
	       "guard %d, lazy %d): %s; word %zu is %llx, the first %llx, the last %llx", w->number, w->count, w->doing, i,
	       at(w, i), kinds[p->kind], p->did, p->when, (unsigned long long)*tag_of(w, i), p->unit, p->prot, p->guard, p->lazy,
	       what, word, (unsigned long long)is[word], (unsigned long long)is[0], (unsigned long long)is[511]);
}

/* The first word that is not as it should be, or 512. */
static size_t differs(const void *where, uint64_t tag)
{
	const uint64_t *words = where;
	size_t i = 0;

	while (i < PAGE / 8 && words[i] == (tag ? pattern(tag, i) : 0))
		i++;
	return i;
}

static uint64_t expected(struct world *w, size_t i)
{
	uint64_t tag = *tag_of(w, i);

	return tag == 0 && w->page[i].kind == OF_FILE ? FILE_SEED + w->page[i].offset : tag;
}

static void check_page(struct world *w, size_t i)
{
	struct page *p = &w->page[i];
	unsigned char resident;

	if (p->kind == NOTHING) {
		if (i % 16 == 0 && mincore(at(w, i), PAGE, &resident) == 0)
			wrong(w, i, "it is mapped", 0);
		return;
	}
	if (p->guard || !(p->prot & PROT_READ)) {
		if (i % 16 == 0 && readable(at(w, i)))
			wrong(w, i, "it can be read", 0);
		return;
	}
	size_t word = differs(at(w, i), expected(w, i));
	if (word < 512 && !(p->lazy && differs(at(w, i), 0) == 512))
		wrong(w, i, "it holds something else", word);
}

static void check(struct world *w)
{
	size_t i, n;

	choose(w, &i, &n);
	for (size_t k = i; k < i + n; k++)
		check_page(w, k);
}

static void check_all(struct world *w)
{
	unsigned char resident;

	for (size_t i = 0; i < WINDOW; i++) {
		struct page *p = &w->page[i];
		int mapped = mincore(at(w, i), PAGE, &resident) == 0;

		if (mapped != (p->kind != NOTHING))
			wrong(w, i, mapped ? "it is mapped" : "it is not mapped", 0);
		check_page(w, i);
		if (i % 16 == 0 && mapped && !p->guard && p->prot == PROT_READ && writable(at(w, i)))
			wrong(w, i, "it can be written", 0);
	}
}

static void put(struct world *w, size_t i, uint64_t tag)
{
	*tag_of(w, i) = tag;
	w->page[i].lazy = 0;
}

static void write_some(struct world *w)
{
	size_t i, n = choose_writable(w, &i);

	for (size_t k = i; k < i + n; k++) {
		put(w, k, new_tag(w));
		fill(at(w, k), PAGE, *tag_of(w, k));
	}
	note(w, i, n);
}

/* By the kernel, for it. */
static void write_by_calls(struct world *w)
{
	size_t i, n = choose_writable(w, &i), from;

	if (n > FILE_PAGES)
		n = FILE_PAGES;
	if (n == 0)
		return;
	if (any(&w->random, 2)) {
		from = any(&w->random, FILE_PAGES - n + 1);
		EXPECT(pread(file, at(w, i), n * PAGE, from * PAGE) == (ssize_t)(n * PAGE), "pread: %s", strerror(errno));
		for (size_t k = 0; k < n; k++)
			put(w, i + k, FILE_SEED + from + k);
	} else {
		uint64_t words[PAGE / 8], tag = new_tag(w);
		struct iovec here = { words, PAGE }, there = { at(w, i), PAGE };

		fill(words, PAGE, tag);
		EXPECT(process_vm_writev(getpid(), &here, 1, &there, 1, 0) == PAGE, "process_vm_writev: %s", strerror(errno));
		put(w, i, tag);
		n = 1;
	}
	note(w, i, n);
}

static void forget(struct world *w, size_t i, size_t n, struct page like_this)
{
	for (size_t k = 0; k < n; k++) {
		w->page[i + k] = like_this;
		w->page[i + k].offset += k;
	}
	note(w, i, n);
}

static void must_be(struct world *w, size_t i, void *got)
{
	EXPECT(got == at(w, i), "thread %d: %s: got %p: %s", w->number, w->doing, got, strerror(errno));
}

/* Where mappings could not be joined it may be refused, and nothing has happened. */
static void refused_with(struct world *w, size_t i, int error)
{
	if (errno != error)
		wrong(w, i, strerror(errno), 0);
}

static void map(struct world *w)
{
	size_t i, n;

	choose(w, &i, &n);
	must_be(w, i, mmap(at(w, i), n * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	forget(w, i, n, (struct page){ .kind = ANON, .prot = RW, .unit = ++w->units });
}

static void map_file(struct world *w)
{
	size_t i, n, from;

	choose(w, &i, &n);
	n = n > FILE_PAGES ? FILE_PAGES : n;
	from = any(&w->random, FILE_PAGES - n + 1);
	must_be(w, i, mmap(at(w, i), n * PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, from * PAGE));
	forget(w, i, n, (struct page){ .kind = OF_FILE, .prot = RW, .unit = ++w->units, .offset = from });
}

static void map_shared(struct world *w)
{
	size_t i, n, object = any(&w->random, OBJECTS);

	for (i = 0; i < WINDOW; i++)
		if (w->page[i].kind == SHARED && w->page[i].object == object)
			return;
	choose(w, &i, &n);
	n = n > OBJECT_PAGES ? OBJECT_PAGES : n;
	must_be(w, i, mmap(at(w, i), n * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(w->shared[object], 0, sizeof w->shared[object]);
	forget(w, i, n, (struct page){ .kind = SHARED, .prot = RW, .unit = ++w->units, .object = object });
}

/* The same object once more: an old size of zero (mremap(2)). */
static void map_again(struct world *w)
{
	size_t i, to, n = choose_mapped(w, &i);

	if (n == 0 || w->page[i].kind != SHARED)
		return;
	to = any(&w->random, WINDOW - n);
	if (to < i + n && i < to + n)
		return;
	struct page same = w->page[i];
	must_be(w, to, mremap(at(w, i), 0, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(w, to)));
	same.unit = ++w->units;
	forget(w, to, n, same);
}

static void unmap(struct world *w)
{
	size_t i, n;

	choose(w, &i, &n);
	EXPECT_OK(munmap(at(w, i), n * PAGE));
	forget(w, i, n, (struct page){ 0 });
}

/* At once made anew at the same place: nothing in /proc/PID/maps shows it. */
static void map_anew(struct world *w)
{
	size_t i, n = choose_mapped(w, &i);

	if (n == 0 || w->page[i].kind != ANON)
		return;
	struct page same = { .kind = ANON, .prot = w->page[i].prot, .unit = ++w->units };
	EXPECT_OK(munmap(at(w, i), n * PAGE));
	must_be(w, i, mmap(at(w, i), n * PAGE, same.prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	forget(w, i, n, same);
}

static void give_back(struct world *w)
{
	size_t i, n = choose_mapped(w, &i);

	if (n == 0)
		return;
	EXPECT_OK(madvise(at(w, i), n * PAGE, MADV_DONTNEED));
	for (size_t k = i; k < i + n && w->page[i].kind != SHARED; k++)
		put(w, k, 0);
	note(w, i, n);
}

static void give_back_lazily(struct world *w)
{
	size_t i, n = choose_writable(w, &i);

	if (n == 0 || w->page[i].kind != ANON)
		return;
	EXPECT_OK(madvise(at(w, i), n * PAGE, MADV_FREE));
	for (size_t k = i; k < i + n; k++)
		w->page[k].lazy = 1;
	note(w, i, n);
}

static void punch(struct world *w)
{
	size_t i, n = choose_writable(w, &i);

	if (n == 0 || w->page[i].kind != SHARED)
		return;
	EXPECT_OK(madvise(at(w, i), n * PAGE, MADV_REMOVE));
	for (size_t k = i; k < i + n; k++)
		put(w, k, 0);
	note(w, i, n);
}

static void protect(struct world *w)
{
	size_t i, n = choose_mapped(w, &i);
	uint64_t dice = any(&w->random, 8);
	int prot = dice == 0 ? PROT_NONE : dice < 3 ? PROT_READ : RW;

	if (n == 0)
		return;
	EXPECT_OK(mprotect(at(w, i), n * PAGE, prot));
	for (size_t k = i; k < i + n; k++)
		w->page[k].prot = prot;
	note(w, i, n);
}

/*
 * Growing is done for all of it or not at all. Of the same size, newer kernels (6.17) move several mappings one by one, and may fail in
 * between (which tracking makes likelier: it keeps mappings apart, and such ones move one at a time only): then both places are given up.
 */
static void move(struct world *w)
{
	size_t i, to, n = choose_mapped(w, &i);
	uint64_t dice = any(&w->random, 4);
	int private = n > 0 && w->page[i].kind == ANON, grows = private && dice == 0, stays = private && dice == 1;
	size_t length = grows ? n + 1 : n;
	struct page gone = { 0 };

	if (n == 0)
		return;
	to = any(&w->random, WINDOW - length);
	if (to < i + n && i < to + length)
		return;
	EXPECT_OK(munmap(at(w, to), length * PAGE));
	forget(w, to, length, gone);
	int leaves = stays || (!grows && dice == 2);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (leaves ? MREMAP_DONTUNMAP : 0);
	void *got = mremap(at(w, i), n * PAGE, length * PAGE, flags, at(w, to));
	if (got == MAP_FAILED) {
		refused_with(w, i, EFAULT);
		if (grows)
			return;
		EXPECT_OK(munmap(at(w, to), length * PAGE));
		EXPECT_OK(munmap(at(w, i), n * PAGE));
		return forget(w, i, n, gone);
	}
	must_be(w, to, got);
	if (leaves && !stays)
		EXPECT_OK(munmap(at(w, i), n * PAGE));
	w->units++;
	for (size_t k = 0; k < n; k++) {
		w->page[to + k] = w->page[i + k];
		w->page[to + k].unit = w->units;
		if (stays) {
			gone = w->page[i + k];
			gone.tag = gone.lazy = gone.guard = 0;
		}
		w->page[i + k] = gone;
	}
	if (grows)
		w->page[to + n] = (struct page){ .kind = ANON, .prot = w->page[to].prot, .unit = w->units };
	note(w, to, length);
	note(w, i, n);
	for (size_t k = 0; k < length; k++)
		check_page(w, to + k);
}

static void resize(struct world *w)
{
	size_t i, n = choose_mapped(w, &i), free = 0, much;
	int kind = n ? w->page[i].kind : NOTHING;

	if (n == 0)
		return;
	if (n > 1 && any(&w->random, 2)) {
		much = 1 + any(&w->random, n - 1);
		if (mremap(at(w, i), n * PAGE, much * PAGE, 0) == MAP_FAILED)
			return refused_with(w, i, EFAULT);
		forget(w, i + much, n - much, (struct page){ 0 });
		return;
	}
	while (i + n + free < WINDOW && free < 64 && w->page[i + n + free].kind == NOTHING)
		free++;
	if (free == 0 || kind != ANON)
		return;
	much = 1 + any(&w->random, free);
	if (mremap(at(w, i), n * PAGE, (n + much) * PAGE, 0) == MAP_FAILED)
		return refused_with(w, i + n, EFAULT);
	forget(w, i + n, much, (struct page){ .kind = ANON, .prot = w->page[i].prot, .unit = w->page[i].unit });
}

static void advise_huge(struct world *w)
{
	size_t i = any(&w->random, WINDOW / HUGE) * HUGE;
	uint64_t dice = any(&w->random, 8);

	if (dice < 3) {
		/* A whole huge page, from nothing. */
		must_be(w, i, mmap(at(w, i), HUGE * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		forget(w, i, HUGE, (struct page){ .kind = ANON, .prot = RW, .unit = ++w->units });
		madvise(at(w, i), HUGE * PAGE, MADV_HUGEPAGE);
		for (size_t k = i; k < i + HUGE; k += 1 + any(&w->random, 40)) {
			put(w, k, new_tag(w));
			fill(at(w, k), PAGE, *tag_of(w, k));
			note(w, k, 1);
		}
	} else {
		/* Refused where there are holes or too many mappings: nothing depends on it. */
		madvise(at(w, i), HUGE * PAGE, dice < 7 ? MADV_COLLAPSE : MADV_NOHUGEPAGE);
	}
}

static void touch(struct world *w)
{
	static const int advices[] = { 22 /* POPULATE_READ */, 23 /* POPULATE_WRITE */, 21 /* PAGEOUT */, 20 /* COLD */ };
	size_t i, n = choose_mapped(w, &i);

	if (n)
		madvise(at(w, i), n * PAGE, advices[any(&w->random, 4)]);
}

static void guard(struct world *w)
{
	size_t i, n = choose_mapped(w, &i);
	int on = any(&w->random, 2);

	if (n == 0 || w->page[i].kind != ANON)
		return;
	if (madvise(at(w, i), n * PAGE, on ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE) != 0)
		return refused_with(w, i, EINVAL);
	for (size_t k = i; k < i + n; k++) {
		if (on || w->page[k].guard)
			put(w, k, 0);
		w->page[k].guard = on;
	}
	note(w, i, n);
}

/* While both have it, each writes its own. */
static void fork_one(struct world *w)
{
	size_t i, n;
	int status;

	if (!forks)
		return;
	pid_t child = fork();
	EXPECT(child >= 0, "fork: %s", strerror(errno));
	for (int round = 0; round < (child == 0 ? 3 : 1); round++) {
		n = choose_writable(w, &i);
		if (n == 0 || w->page[i].kind == SHARED)
			continue;
		for (size_t k = i; k < i + n; k++) {
			if (child != 0)
				put(w, k, new_tag(w));
			fill(at(w, k), PAGE, child != 0 ? w->page[k].tag : 0xdead);
		}
		note(w, i, n);
	}
	if (child == 0)
		_exit(0);
	EXPECT(waitpid(child, &status, 0) == child && status == 0, "a child ended with %x", status);
}

static void change_heap(struct world *w)
{
	if (w->number != 0)
		return;
	size_t dice = any(&w->random, 4), i = any(&w->random, HEAP_PAGES), n = 1 + any(&w->random, 40);

	if (dice == 0) {
		EXPECT((char *)syscall(SYS_brk, heap + i * PAGE) == heap + i * PAGE, "brk");
		for (size_t k = w->heap_pages; k < i; k++)
			w->heap[k] = 0;
		w->heap_pages = i;
	}
	for (size_t k = i; k < i + n && k < w->heap_pages; k++) {
		size_t word = differs(heap + k * PAGE, w->heap[k]);

		EXPECT(word == 512, "heap page %zu at %p: word %zu is %llx; its tag is %llx", k, heap + k * PAGE, word,
		       (unsigned long long)((uint64_t *)(heap + k * PAGE))[word], (unsigned long long)w->heap[k]);
		if (dice < 2)
			continue;
		w->heap[k] = dice == 2 ? 0 : new_tag(w);
		if (dice == 2)
			EXPECT_OK(madvise(heap + k * PAGE, PAGE, MADV_DONTNEED));
		else
			fill(heap + k * PAGE, PAGE, w->heap[k]);
	}
}

static const struct {
	const char *name;
	void (*act)(struct world *);
	unsigned often;
} ways[] = {
	{ "write", write_some, 28 }, { "check", check, 20 }, { "write by calls", write_by_calls, 6 },
	{ "map", map, 5 }, { "map a file", map_file, 4 }, { "map shared", map_shared, 4 }, { "map again", map_again, 4 },
	{ "map anew", map_anew, 4 }, { "unmap", unmap, 4 }, { "give back", give_back, 8 },
	{ "give back lazily", give_back_lazily, 3 }, { "punch", punch, 2 }, { "protect", protect, 8 }, { "move", move, 8 },
	{ "resize", resize, 4 }, { "huge", advise_huge, 2 }, { "touch", touch, 4 }, { "guard", guard, 4 },
	{ "fork", fork_one, 1 }, { "heap", change_heap, 8 },
};

static void *work(void *world)
{
	struct world *w = world;
	unsigned total = 0;

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		total += ways[i].often;
	while (!stop) {
		unsigned dice = any(&w->random, total);
		size_t i = 0;

		while (dice >= ways[i].often)
			dice -= ways[i++].often;
		w->doing = ways[i].name;
		w->count++;
		ways[i].act(w);
		if (any(&w->random, 16) == 0)
			pause_ms(1);
	}
	w->doing = "the end";
	check_all(w);
	return NULL;
}

static void crashed(int signal, siginfo_t *info, void *unused)
{
	(void)unused;
	for (int i = 0; i < WORKERS; i++) {
		size_t page = ((char *)info->si_addr - worlds[i].base) / PAGE;

		if ((char *)info->si_addr >= worlds[i].base && page < WINDOW)
			failed("signal %d in %s of thread %d: page %zu (%s, last: %s at %u of %u, protection %d, guard %d)", signal,
			       worlds[i].doing, i, page, kinds[worlds[i].page[page].kind], worlds[i].page[page].did,
			       worlds[i].page[page].when, worlds[i].count, worlds[i].page[page].prot,
			       worlds[i].page[page].guard);
	}
	failed("signal %d at %p", signal, info->si_addr);
}

int main(int argc, char **argv)
{
	pthread_t thread[WORKERS];
	struct sigaction action = { .sa_sigaction = crashed, .sa_flags = SA_SIGINFO };
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;

	begin(argc, argv);
	forks = argc > 2;
	NEED(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
	close(make_file("content", FILE_PAGES, FILE_SEED));
	file = open(path_of("content"), O_RDONLY);
	NEED(file >= 0);
	/* What the library allocates is in its own first piece of the heap. */
	NEED(malloc(1) != NULL);
	heap = (char *)(((uintptr_t)syscall(SYS_brk, 0) + PAGE - 1) & ~(PAGE - 1));
	for (int i = 0; i < WORKERS; i++) {
		worlds[i].number = i;
		worlds[i].random = pattern(seed, i) | 1;
		worlds[i].base = (char *)(FIRST_ADDRESS + i * BETWEEN);
		worlds[i].doing = "the beginning";
	}
	for (int i = 0; i < WORKERS; i++)
		thread[i] = start_thread(work, &worlds[i]);
	pause_ms(200);
	ready();
	await_check();
	stop = 1;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	passed();
}
