/*
 * Notes the time of day (CLOCK_REALTIME, ns) about every millisecond, so that
 * the largest gap is how long the process stood still as it saw it itself.
 *
 * usage: ticker DIRECTORY [MEMORY-MiB [PAGES-PER-TICK]]
 *
 * `ticks` in the directory: a ring of 64-bit records after a header word, the
 * number of records ever written. Memory is filled at the start; each tick
 * rewrites so many pages of it.
 */
#include "subject.h"

#define RECORDS (1UL << 17)

int main(int argc, char **argv)
{
	begin(argc, argv);
	size_t pages = (argc > 2 ? strtoul(argv[2], NULL, 10) : 0) << 8, dirty = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	int fd = open(path_of("ticks"), O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0666);
	NEED(fd >= 0 && ftruncate(fd, (RECORDS + 1) * 8) == 0);
	uint64_t *ticks = mmap(NULL, (RECORDS + 1) * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	NEED(ticks != MAP_FAILED);
	close(fd);
	char *memory = pages ? map_anonymous(pages * PAGE) : NULL;
	for (size_t i = 0; i < pages; i++)
		fill(memory + i * PAGE, PAGE, i);
	ready();
	for (size_t next = 0; !check_wanted();) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		uint64_t count = ticks[0];
		ticks[1 + count % RECORDS] = now.tv_sec * 1000000000ULL + now.tv_nsec;
		__atomic_store_n(&ticks[0], count + 1, __ATOMIC_RELEASE);
		/* The same content again: what is checked below stays simple, and a page is as dirty for it. */
		for (size_t i = 0; i < dirty && pages; i++, next = (next + 1) % pages)
			fill(memory + next * PAGE, PAGE, next);
		pause_ms(1);
	}
	for (size_t i = 0; i < pages; i++)
		expect_filled("memory", memory + i * PAGE, PAGE, i);
	passed();
}
