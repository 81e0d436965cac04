/* Lightweight guard regions (MADV_GUARD_INSTALL, Linux 6.13): they are in the page tables only, no mapping shows them. */
#include "subject.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *area = map_anonymous(16 * PAGE);

	for (size_t i = 0; i < 16; i++)
		fill(area + i * PAGE, PAGE, i);
	if (madvise(area + 4 * PAGE, 3 * PAGE, MADV_GUARD_INSTALL) != 0 && errno == EINVAL)
		skipped("this kernel has no MADV_GUARD_INSTALL");
	NEED(madvise(area + 15 * PAGE, PAGE, MADV_GUARD_INSTALL) == 0);
	ready();
	await_check();

	for (size_t i = 0; i < 16; i++) {
		int guard = (i >= 4 && i < 7) || i == 15;

		EXPECT(readable(area + i * PAGE) == !guard, "page %zu: expected %s", i,
		       guard ? "a guard" : "memory, found a guard");
		if (!guard)
			expect_filled("page beside a guard", area + i * PAGE, PAGE, i);
	}
	EXPECT_OK(madvise(area + 4 * PAGE, 3 * PAGE, MADV_GUARD_REMOVE));
	expect_zero("page that was a guard", area + 4 * PAGE, 3 * PAGE);
	passed();
}
