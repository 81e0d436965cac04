/* Sealed memory (mseal): what it holds is the same, what may be written can be, and nothing else can be done to it. */
#include "subject.h"

#define SIZE (16 * PAGE)
#define SYS_mseal_ 462

static void expect_sealed(char *at)
{
	EXPECT(mprotect(at, PAGE, PROT_NONE) == -1 && errno == EPERM, "its protection can be changed");
	EXPECT(munmap(at + PAGE, PAGE) == -1 && errno == EPERM, "it can be unmapped");
	EXPECT(mremap(at, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at + (1UL << 32)) == MAP_FAILED && errno == EPERM,
	       "it can be moved");
	EXPECT(mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EPERM,
	       "something else can be mapped there");
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *written = map_anonymous(SIZE), *read_only = map_anonymous(SIZE), *free_to_go = map_anonymous(SIZE);
	fill(written, SIZE, 1);
	fill(read_only, SIZE, 2);
	fill(free_to_go, SIZE, 3);
	NEED(mprotect(read_only, SIZE, PROT_READ) == 0);
	if (syscall(SYS_mseal_, written, SIZE, 0) != 0)
		skipped("this kernel has no mseal (Linux 6.10)");
	NEED(syscall(SYS_mseal_, read_only, SIZE, 0) == 0);
	expect_sealed(written);
	ready();
	await_check();
	expect_sealed(written);
	expect_sealed(read_only);
	EXPECT(madvise(read_only, PAGE, MADV_DONTNEED) == -1 && errno == EPERM, "it can be emptied");
	expect_filled("what may be written", written, SIZE, 1);
	expect_filled("what may be read", read_only, SIZE, 2);
	expect_filled("what is not sealed", free_to_go, SIZE, 3);
	fill(written, SIZE, 4);
	expect_filled("what may be written", written, SIZE, 4);
	EXPECT_OK(munmap(free_to_go, SIZE));
	passed();
}
