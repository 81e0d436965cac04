/* Has memory under a protection key: refused by name, and the key works on here. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int key = syscall(SYS_pkey_alloc, 0, 0);
	if (key < 0)
		skipped("the CPU or the kernel has no protection keys");
	char *memory = map_anonymous(PAGE);
	fill(memory, PAGE, 1);
	NEED(syscall(SYS_pkey_mprotect, memory, PAGE, PROT_READ | PROT_WRITE, key) == 0);
	ready();
	await_check();
	expect_filled("the memory", memory, PAGE, 1);
	EXPECT_OK(syscall(SYS_pkey_mprotect, memory, PAGE, PROT_READ | PROT_WRITE, 0));
	EXPECT_OK(syscall(SYS_pkey_free, key));
	passed();
}
