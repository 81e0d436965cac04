/* mlockall(MCL_FUTURE | MCL_ONFAULT): memory mapped after the move is locked too. */
#include "subject.h"

static long locked_kib(void)
{
	char text[8192] = "";
	const char *line;

	read_whole("/proc/self/status", text, sizeof text - 1);
	line = strstr(text, "VmLck:");
	return line ? atol(line + 6) : -1;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
	char *before = map_anonymous(4 * PAGE);
	fill(before, 4 * PAGE, 1);
	NEED(locked_kib() >= 16);
	ready();
	await_check();

	long locked = locked_kib();
	expect_filled("locked memory", before, 4 * PAGE, 1);
	char *after = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(after != MAP_FAILED, "mmap: %s", strerror(errno));
	EXPECT_EQ("VmLck in KiB after a new mapping", locked_kib(), locked + 32);
	passed();
}
