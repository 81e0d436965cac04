/*
 * Memory behind which there is no file any more, or never was one with a name: of deleted files and memfds whose descriptor is closed,
 * mapped shared and privately, one of them written all the time.
 */
#include "subject.h"

#define PAGES 300UL
#define SIZE (PAGES * PAGE)
/* The files end in the middle of their last page. */
#define END (SIZE - 1000)

enum { SHARED_FILE, PRIVATE_FILE, SHARED_MEMFD, PRIVATE_MEMFD, RUNNING, KINDS };

static char *at[KINDS];
static volatile uint64_t written;
static volatile int stop;

/* A file of patterns, and a mapping of it that is all that there is of it. */
static char *map_unnamed(int kind, int flags)
{
	int memfd = kind == SHARED_MEMFD || kind == PRIVATE_MEMFD || kind == RUNNING;
	int fd = memfd ? (int)syscall(SYS_memfd_create, "of its own", 1) : open(path_of("gone"), O_CREAT | O_RDWR | O_EXCL, 0600);

	NEED(fd >= 0);
	NEED(ftruncate(fd, END) == 0);
	/* Every third page stays a hole. */
	for (size_t i = 0; i < PAGES; i++) {
		char page[PAGE];

		fill(page, PAGE, kind * 1000 + i);
		if (i % 3)
			NEED(pwrite(fd, page, i == PAGES - 1 ? PAGE - 1000 : PAGE, i * PAGE) > 0);
	}
	char *mapping = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);
	NEED(mapping != MAP_FAILED);
	if (!memfd)
		NEED(unlink(path_of("gone")) == 0);
	close(fd);
	return mapping;
}

static void check_page(int kind, size_t i, uint64_t tag)
{
	const uint64_t *words = (const uint64_t *)(at[kind] + i * PAGE);
	size_t length = i == PAGES - 1 ? PAGE - 1000 : PAGE;

	for (size_t word = 0; word < length / 8; word++)
		EXPECT(words[word] == (tag ? pattern(tag, word) : 0), "kind %d, page %zu, word %zu is %llx", kind, i, word,
		       (unsigned long long)words[word]);
}

static void *write_on(void *unused)
{
	(void)unused;
	for (uint64_t n = 1; !stop; n++) {
		size_t i = n % PAGES;

		fill(at[RUNNING] + i * PAGE, i == PAGES - 1 ? PAGE - 1000 : PAGE, 1000000 + n);
		written = n;
		if (n % 64 == 0)
			pause_ms(1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	for (int kind = 0; kind < KINDS; kind++)
		at[kind] = map_unnamed(kind, kind == PRIVATE_FILE || kind == PRIVATE_MEMFD ? MAP_PRIVATE : MAP_SHARED);
	/* Of the private ones some pages are the process's own, one of them over a hole. */
	for (int kind = PRIVATE_FILE; kind <= PRIVATE_MEMFD; kind += PRIVATE_MEMFD - PRIVATE_FILE) {
		fill(at[kind] + 6 * PAGE, PAGE, 77);
		fill(at[kind] + 7 * PAGE, PAGE, 78);
	}
	/* The same object once more, from its middle on. */
	char *again = mremap(at[SHARED_FILE] + 100 * PAGE, 0, 50 * PAGE, MREMAP_MAYMOVE);
	NEED(again != MAP_FAILED);
	pthread_t thread = start_thread(write_on, NULL);
	ready();
	await_check();
	stop = 1;
	pthread_join(thread, NULL);
	for (int kind = 0; kind < RUNNING; kind++)
		for (size_t i = 0; i < PAGES; i++) {
			int own = (kind == PRIVATE_FILE || kind == PRIVATE_MEMFD) && (i == 6 || i == 7);

			check_page(kind, i, own ? 71 + i : i % 3 ? kind * 1000 + i : 0);
		}
	/* Each page has what was written to it last. */
	for (uint64_t n = written; n > 0 && n > written - PAGES; n--)
		check_page(RUNNING, n % PAGES, 1000000 + n);
	fill(again, PAGE, 99);
	check_page(SHARED_FILE, 100, 99);
	passed();
}
