/* A private file mapping: pages written keep what was written, the others are still the file's, the file never changes. */
#include "subject.h"

#define PAGES 16

int main(int argc, char **argv)
{
	uint64_t page[PAGE / 8];

	begin(argc, argv);
	int fd = make_file("mapped", PAGES, 100);
	char *at = mmap(NULL, (PAGES - 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE);
	char *read_only = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	NEED(at != MAP_FAILED && read_only != MAP_FAILED);
	close(fd);
	fill(at + 3 * PAGE, PAGE, 1003);
	at[7 * PAGE + 5] ^= 0x55;
	/* Written back to what the file has: still a page of its own. */
	at[8 * PAGE] = at[8 * PAGE];
	/* Read only, never written. */
	NEED(at[PAGE] == (char)pattern(103, 0));
	/* Written, then made read only: the content is not the file's. */
	fill(at + 10 * PAGE, PAGE, 1010);
	NEED(mprotect(at + 10 * PAGE, PAGE, PROT_READ) == 0);
	ready();
	await_check();

	fd = open(path_of("mapped"), O_RDWR);
	EXPECT(fd >= 0, "open: %s", strerror(errno));
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_EQ("length read of the file", pread(fd, page, PAGE, i * PAGE), PAGE);
		expect_filled("the file's page", page, PAGE, 100 + i);
		expect_filled("page of the read-only mapping", read_only + i * PAGE, PAGE, 100 + i);
	}
	at[7 * PAGE + 5] ^= 0x55;
	for (size_t i = 0; i < PAGES - 2; i++)
		expect_filled(i == 3 || i == 10 ? "written page" : "page as in the file", at + i * PAGE, PAGE,
			      i == 3 || i == 10 ? 1000 + i : 102 + i);
	/* A page that was never written is the page cache's: a change of the file shows in it, and only in it. */
	fill(page, PAGE, 2000);
	for (size_t i = 0; i < 8; i++)
		EXPECT_EQ("length written", pwrite(fd, page, PAGE, (i + 2) * PAGE), PAGE);
	expect_filled("unwritten page after the file changed", at + PAGE, PAGE, 2000);
	expect_filled("written page after the file changed", at + 3 * PAGE, PAGE, 1003);
	passed();
}
