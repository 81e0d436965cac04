/* Page protections with content behind them: none, read only, write only, execute. */
#include "subject.h"

#define AREA (4 * PAGE)

static const unsigned char return_42[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov $42, %eax; ret */

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *none = map_anonymous(AREA), *read_only = map_anonymous(AREA), *code = map_anonymous(PAGE);
	char *reserve = mmap(NULL, 1UL << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *stack = map_anonymous(AREA);
	NEED(reserve != MAP_FAILED);

	fill(none, AREA, 1);
	fill(read_only, AREA, 2);
	fill(stack, AREA, 3);
	memcpy(code, return_42, sizeof return_42);
	NEED(mprotect(none, AREA, PROT_NONE) == 0);
	NEED(mprotect(read_only, AREA, PROT_READ) == 0);
	NEED(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
	NEED(mprotect(stack, PAGE, PROT_NONE) == 0);
	ready();
	await_check();

	EXPECT(!readable(none) && !readable(none + AREA - 1), "PROT_NONE memory can be read");
	EXPECT(!readable(reserve) && !readable(reserve + (1UL << 31)), "reserved memory can be read");
	EXPECT(readable(read_only) && !writable(read_only), "read-only memory: wrong protection");
	EXPECT(readable(code) && !writable(code), "code: wrong protection");
	EXPECT(!readable(stack) && writable(stack + PAGE), "area with a guard page: wrong protection");
	expect_filled("read-only memory", read_only, AREA, 2);
	EXPECT_EQ("code's answer", ((int (*)(void))code)(), 42);
	EXPECT_OK(mprotect(none, AREA, PROT_READ));
	expect_filled("PROT_NONE memory", none, AREA, 1);
	EXPECT_OK(mprotect(stack, PAGE, PROT_READ));
	EXPECT_OK(mprotect(read_only, AREA, PROT_READ | PROT_WRITE));
	EXPECT(writable(read_only + PAGE), "read-only memory cannot be made writable");
	EXPECT_OK(mprotect(reserve + PAGE, PAGE, PROT_READ | PROT_WRITE));
	expect_zero("reserved memory", reserve + PAGE, PAGE);
	passed();
}
