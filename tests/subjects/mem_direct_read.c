/*
 * Reads past the page cache (O_DIRECT), all the time: the disk writes to pages that were looked up when the read began. One that
 * is in flight while the memory is looked at must not be lost.
 */
#include "subject.h"

#define PAGES 8192UL
#define FILE_PAGES 4096UL
/* So long that what it looked up first waits for the disk for milliseconds. */
#define LONGEST 2048UL
/* Pages looked at after each read, before others replace them. */
#define CHECKED 300
#define SEED 0xd1ec7000ULL

static char *memory;
/* What each page holds: the file's page plus one; 0: zeros. */
static size_t holds[PAGES];
static volatile int stop;
static int file;
static uint64_t chance = 88172645463325252ULL;

static void check(size_t i)
{
	if (holds[i])
		expect_filled("a page that was read", memory + i * PAGE, PAGE, SEED + holds[i] - 1);
	else
		expect_zero("a page that was not read", memory + i * PAGE, PAGE);
}

static void *read_on(void *unused)
{
	(void)unused;
	while (!stop) {
		size_t n = 1 + any(&chance, LONGEST), from = any(&chance, FILE_PAGES - n), to = any(&chance, PAGES - n);

		EXPECT(pread(file, memory + to * PAGE, n * PAGE, from * PAGE) == (ssize_t)(n * PAGE), "pread: %s", strerror(errno));
		for (size_t i = 0; i < n; i++)
			holds[to + i] = from + i + 1;
		for (size_t i = 0; i < CHECKED; i++)
			check(any(&chance, PAGES));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	close(make_file("content", FILE_PAGES, SEED));
	file = open(path_of("content"), O_RDONLY | O_DIRECT);
	if (file < 0 && errno == EINVAL)
		skipped("this file system has no O_DIRECT");
	NEED(file >= 0);
	NEED(fsync(file) == 0);
	memory = map_anonymous(PAGES * PAGE);
	pthread_t thread = start_thread(read_on, NULL);
	pause_ms(200);
	ready();
	await_check();
	stop = 1;
	pthread_join(thread, NULL);
	for (size_t i = 0; i < PAGES; i++)
		check(i);
	passed();
}
