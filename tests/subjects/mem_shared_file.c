/* A shared file mapping: what is written through it is in the file, what is written to the file is in it; before and after. */
#include "subject.h"

#define PAGES 16

int main(int argc, char **argv)
{
	uint64_t page[PAGE / 8];

	begin(argc, argv);
	int fd = make_file("mapped", PAGES, 100);
	char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *part = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 5 * PAGE);
	NEED(at != MAP_FAILED && part != MAP_FAILED);
	close(fd);
	fill(at + 5 * PAGE, PAGE, 1005);
	ready();
	/* Written while it moves. */
	for (uint64_t round = 0; !check_wanted(); round++) {
		fill(at + 6 * PAGE, PAGE, round);
		expect_filled("page seen through the other mapping", part + PAGE, PAGE, round);
		pause_ms(1);
	}

	fd = open(path_of("mapped"), O_RDWR);
	EXPECT(fd >= 0, "open: %s", strerror(errno));
	for (size_t i = 0; i < PAGES; i++)
		if (i != 6)
			expect_filled("page", at + i * PAGE, PAGE, i == 5 ? 1005 : 100 + i);
	fill(at + 9 * PAGE, PAGE, 1009);
	EXPECT_EQ("length read", pread(fd, page, PAGE, 9 * PAGE), PAGE);
	expect_filled("the file after a write through the mapping", page, PAGE, 1009);
	EXPECT_EQ("length read", pread(fd, page, PAGE, 5 * PAGE), PAGE);
	expect_filled("the file's page written before", page, PAGE, 1005);
	fill(page, PAGE, 2005);
	EXPECT_EQ("length written", pwrite(fd, page, PAGE, 5 * PAGE), PAGE);
	expect_filled("the mapping after a write to the file", at + 5 * PAGE, PAGE, 2005);
	expect_filled("the other mapping after a write to the file", part, PAGE, 2005);
	EXPECT(!writable(part), "the read-only mapping is writable");
	passed();
}
