/*
 * Shared anonymous memory, mapped twice: one object, so a write through one
 * mapping shows in the other. Pages that MADV_DONTNEED took out of one
 * mapping's page tables, or out of both, are still in the object.
 */
#include "subject.h"

#define PAGES 64UL
#define SIZE (PAGES * PAGE)

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *one = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(one != MAP_FAILED);
	/* An old size of zero maps the same object once more (mremap(2)). */
	char *two = mremap(one, 0, SIZE, MREMAP_MAYMOVE);
	NEED(two != MAP_FAILED && two != one);
	/* Another object, to be kept apart, of which only the second half is still mapped. */
	char *other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(other != MAP_FAILED);

	for (size_t i = 0; i < PAGES; i += 2) {
		fill(one + i * PAGE, PAGE, i);
		fill(other + i * PAGE, PAGE, 500 + i);
	}
	for (size_t i = 0; i < PAGES; i++)
		NEED(readable(two + i * PAGE));
	NEED(munmap(other, SIZE / 2) == 0);
	NEED(madvise(one + 4 * PAGE, 20 * PAGE, MADV_DONTNEED) == 0);
	NEED(madvise(two + 16 * PAGE, 20 * PAGE, MADV_DONTNEED) == 0);
	NEED(mprotect(two, PAGE, PROT_READ) == 0);
	ready();
	for (uint64_t round = 0; !check_wanted(); round++) {
		fill(one + 61 * PAGE, PAGE, round);
		expect_filled("page seen through the other mapping", two + 61 * PAGE, PAGE, round);
		pause_ms(1);
	}

	for (size_t i = 0; i < PAGES; i++) {
		if (i == 61)
			continue;
		if (i % 2) {
			expect_zero("untouched page", two + i * PAGE, PAGE);
			continue;
		}
		expect_filled("page, second mapping", two + i * PAGE, PAGE, i);
		expect_filled("page, first mapping", one + i * PAGE, PAGE, i);
		if (i >= PAGES / 2)
			expect_filled("page of the other object", other + i * PAGE, PAGE, 500 + i);
	}
	for (size_t i = 1; i < PAGES; i++) {
		fill(two + i * PAGE, PAGE, 1000 + i);
		expect_filled("page written through the second mapping", one + i * PAGE, PAGE, 1000 + i);
	}
	expect_filled("page of the other object", other + 40 * PAGE, PAGE, 540);
	EXPECT(!writable(two), "the second mapping's first page is writable");
	passed();
}
