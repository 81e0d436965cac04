/* A local descriptor table (modify_ldt): refused. */
#include "subject.h"
#include <asm/ldt.h>

int main(int argc, char **argv)
{
	struct user_desc segment = { .entry_number = 1, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1 };

	begin(argc, argv);
	if (syscall(SYS_modify_ldt, 1, &segment, sizeof segment) != 0)
		skipped("this kernel has no modify_ldt (CONFIG_MODIFY_LDT_SYSCALL)");
	ready();
	await_check();
	segment.entry_number = 0;
	char table[16] = { 0 };
	EXPECT_EQ("bytes of its table", syscall(SYS_modify_ldt, 0, table, sizeof table) > 0, 1);
	passed();
}
