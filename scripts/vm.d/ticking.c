/*
 * ticking FILE: counts, and writes the count into FILE every 10 ms. A part of its memory changes with every tick, and it
 * looks after all of it: when a page is not what it should be, it writes that instead and ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGES 1024

static unsigned long memory[PAGES][512];

/* In one place and without a temporary file: wherever it is stopped, what it needs is on the other host, which shares no files. */
static void tell(const char *file, const char *text)
{
	int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);

	if (fd < 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text) || close(fd) != 0)
		_exit(3);
}

int main(int argc, char **argv)
{
	char text[64];

	if (argc != 2)
		return 2;
	for (unsigned long count = 1;; count++) {
		struct timespec ms10 = { 0, 10000000 };

		/* Each page holds the last count that is its own number modulo PAGES. */
		memory[count % PAGES][count % 512] = count;
		for (unsigned long page = 0; page < PAGES; page++) {
			unsigned long last = count - (count + PAGES - page) % PAGES;

			if (last != 0 && last <= count && memory[page][last % 512] != last) {
				snprintf(text, sizeof text, "wrong in page %lu at count %lu\n", page, count);
				tell(argv[1], text);
				return 1;
			}
		}
		snprintf(text, sizeof text, "%020lu\n", count);
		tell(argv[1], text);
		nanosleep(&ms10, NULL);
	}
}
