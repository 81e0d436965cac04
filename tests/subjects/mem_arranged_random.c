/*
 * Memory that has been mapped, cut, moved, protected, advised, locked and named by chance, and then is left alone: each page holds what
 * it held, and what /proc shows of the mappings is the same.
 *
 *   mem_arranged_random DIRECTORY [SEED]
 */
#include "subject.h"

#define PR_SET_VMA 0x53564d41

#define WINDOW 2048UL
#define LONGEST 48UL
#define STEPS 600
#define OBJECTS 48
#define OBJECT_PAGES 64UL
#define AT ((char *)0x20000000000UL)
#define RW (PROT_READ | PROT_WRITE)

static struct page {
	/* Mapped; shared with its object; written since it was mapped privately. */
	char is, shared, own;
	int prot;
	/* 0: none. */
	int object;
	unsigned long offset;
	/* Of what was written; 0: zeros. */
	uint64_t tag;
} pages[WINDOW];

/* The tags of what is in the objects: the file, the memfd, and shared anonymous mappings. */
static uint64_t content[OBJECTS][OBJECT_PAGES];
static int descriptors[3] = { -1, -1, -1 }, objects = 3;
static uint64_t chance, tags;

static char *address(unsigned long page)
{
	return AT + page * PAGE;
}

static uint64_t expected(const struct page *page)
{
	if (page->object && !page->own)
		return content[page->object][page->offset];
	return page->own ? page->tag : 0;
}

static void write_page(struct page *page)
{
	uint64_t tag = ++tags;

	fill(address(page - pages), PAGE, tag);
	if (page->shared) {
		content[page->object][page->offset] = tag;
	} else {
		page->own = 1;
		page->tag = tag;
	}
}

static void map(unsigned long first, unsigned long length)
{
	int object = 0, flags = MAP_FIXED, fd = -1;
	unsigned long offset = 0;
	int shared = any(&chance, 2);

	if (any(&chance, 2)) {
		/* Locking may copy a page of a private mapping: what is changed through others then is not seen in it any more. */
		object = shared ? 1 + any(&chance, 2) : 1;
		fd = descriptors[object];
		offset = any(&chance, OBJECT_PAGES - length + 1);
	} else {
		flags |= MAP_ANONYMOUS | (any(&chance, 3) ? 0 : MAP_NORESERVE);
		if (shared && objects < OBJECTS)
			object = objects++;
		else
			shared = 0;
	}
	flags |= shared ? MAP_SHARED : MAP_PRIVATE;
	NEED(mmap(address(first), length * PAGE, RW, flags, fd, offset * PAGE) == address(first));
	for (unsigned long i = 0; i < length; i++)
		pages[first + i] = (struct page){ 1, shared, 0, RW, object, offset + i, 0 };
}

static void protect(unsigned long first, unsigned long length)
{
	static const int protections[] = { PROT_NONE, PROT_READ, RW, RW, PROT_READ | PROT_EXEC };
	int prot = protections[any(&chance, sizeof protections / sizeof *protections)];

	for (unsigned long i = first; i < first + length; i++)
		/* A file may be on a file system from which nothing is run. */
		if (pages[i].is && !(pages[i].object && prot & PROT_EXEC) && mprotect(address(i), PAGE, prot) == 0)
			pages[i].prot = prot;
}

static void advise(unsigned long first, unsigned long length)
{
	static const int advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTFORK, MADV_DOFORK, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_MERGEABLE, MADV_UNMERGEABLE,
	};

	/* Over what is not mapped too: the rest is advised all the same. Not all advice is for all memory. */
	madvise(address(first), length * PAGE, advices[any(&chance, sizeof advices / sizeof *advices)]);
}

static void drop(unsigned long first, unsigned long length)
{
	for (unsigned long i = first; i < first + length; i++)
		if (pages[i].is && madvise(address(i), PAGE, MADV_DONTNEED) == 0)
			pages[i].own = 0;
}

static void lock(unsigned long first, unsigned long length)
{
	switch (any(&chance, 4)) {
	case 0:
		mlock(address(first), length * PAGE);
		break;
	case 1:
		syscall(SYS_mlock2, address(first), length * PAGE, MLOCK_ONFAULT);
		break;
	default:
		munlock(address(first), length * PAGE);
	}
}

static void name(unsigned long first, unsigned long length)
{
	char text[16];

	snprintf(text, sizeof text, "piece %d", (int)any(&chance, 5));
	prctl(PR_SET_VMA, 0, address(first), length * PAGE, any(&chance, 3) ? text : NULL);
}

static void unmap(unsigned long first, unsigned long length)
{
	NEED(munmap(address(first), length * PAGE) == 0);
	memset(&pages[first], 0, length * sizeof *pages);
}

/* To where nothing is. Not over the end of a mapping: the kernel refuses that. */
static void move(unsigned long first, unsigned long length)
{
	unsigned long to = any(&chance, WINDOW - length);

	for (unsigned long i = 0; i < length; i++)
		if (pages[to + i].is || (to + i >= first && to + i < first + length))
			return;
	if (mremap(address(first), length * PAGE, length * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, address(to)) == MAP_FAILED)
		return;
	memcpy(&pages[to], &pages[first], length * sizeof *pages);
	memset(&pages[first], 0, length * sizeof *pages);
}

static void rewrite(unsigned long first, unsigned long length)
{
	for (unsigned long i = first; i < first + length; i++)
		if (pages[i].is && pages[i].prot == RW && !(pages[i].shared && pages[i].object == 1))
			write_page(&pages[i]);
}

int main(int argc, char **argv)
{
	static void (*const steps[])(unsigned long, unsigned long) = { map, map, map,   protect, protect, advise, advise, drop,
								       lock, name, unmap, move,    move,    rewrite, rewrite };
	unsigned char resident;

	begin(argc, argv);
	chance = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)now_us(CLOCK_REALTIME);
	printf("seed %#llx\n", (unsigned long long)chance);
	fflush(stdout);
	descriptors[1] = make_file("file", OBJECT_PAGES, 1);
	descriptors[2] = syscall(SYS_memfd_create, "object", 1 /* MFD_CLOEXEC */);
	NEED(descriptors[2] >= 0 && ftruncate(descriptors[2], OBJECT_PAGES * PAGE) == 0);
	tags = 1 + OBJECT_PAGES;
	for (unsigned long i = 0; i < OBJECT_PAGES; i++)
		content[1][i] = 1 + i;
	NEED(mmap(AT, WINDOW * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == AT);
	NEED(munmap(AT, WINDOW * PAGE) == 0);
	for (int i = 0; i < STEPS; i++) {
		unsigned long length = 1 + any(&chance, LONGEST);

		steps[any(&chance, sizeof steps / sizeof *steps)](any(&chance, WINDOW - length), length);
	}
	ready();
	await_check();

	for (unsigned long i = 0; i < WINDOW; i++) {
		char what[64];
		int is = mincore(address(i), PAGE, &resident) == 0;
		uint64_t tag = expected(&pages[i]);

		snprintf(what, sizeof what, "page %lu (%s)", i, pages[i].shared ? "shared" : pages[i].object ? "file" : "private");
		EXPECT(is == pages[i].is, "%s: %s", what, is ? "is mapped" : "is not mapped");
		if (!is)
			continue;
		if (!(pages[i].prot & PROT_READ)) {
			EXPECT(!readable(address(i)), "%s can be read", what);
			EXPECT_OK(mprotect(address(i), PAGE, PROT_READ));
		}
		if (tag)
			expect_filled(what, address(i), PAGE, tag);
		else
			expect_zero(what, address(i), PAGE);
	}
	passed();
}
