/* Huge pages that the program had made (MADV_COLLAPSE) are huge again, and what was none beside them is none. */
#include "subject.h"
#include <sys/ioctl.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE (2UL << 20)
#define BLOCKS 8

/* linux/fs.h of Linux 6.7 */
struct region { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan)
#define IS_HUGE (1 << 6)

/* Whether a block is one huge page; -1: the kernel does not tell. */
static int is_huge(char *block)
{
	struct region region;
	struct scan scan = {
		.size = sizeof scan, .start = (uint64_t)block, .end = (uint64_t)block + HUGE, .vec = (uint64_t)&region, .vec_len = 1,
		.category_mask = IS_HUGE, .return_mask = IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int count = ioctl(fd, SCAN, &scan);

	close(fd);
	return count < 0 ? -1 : count == 1 && region.end - region.start == HUGE;
}

static int is_made(int block)
{
	return block == 1 || block == 4 || block == 5;
}

int main(int argc, char **argv)
{
	char setting[64] = "";

	begin(argc, argv);
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, setting, sizeof setting - 1) <= 0)
		skipped("the kernel has no huge pages");
	close(fd);
	if (strstr(setting, "[always]"))
		skipped("this host gives huge pages everywhere");
	char *area = map_anonymous((BLOCKS + 1) * HUGE);
	char *blocks = (char *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
	fill(blocks, BLOCKS * HUGE, 1);
	if (is_huge(blocks) < 0)
		skipped("the kernel does not tell which pages are huge (Linux 6.7)");
	for (int i = 0; i < BLOCKS; i++)
		if (is_made(i) && madvise(blocks + i * HUGE, HUGE, MADV_COLLAPSE) != 0)
			skipped("the kernel has no huge page left, or cannot make one (MADV_COLLAPSE)");
	ready();
	await_check();

	for (int i = 0; i < BLOCKS; i++)
		EXPECT(is_huge(blocks + i * HUGE) == is_made(i), "block %d: %s", i, is_made(i) ? "is huge no more" : "is huge");
	expect_filled("the blocks", blocks, BLOCKS * HUGE, 1);
	passed();
}
