/* Arguments and environment moved to memory of the program's own by PR_SET_MM_MAP. */
#include "subject.h"
#include <linux/prctl.h>
#include <sys/auxv.h>

static char text[1 << 17];

int main(int argc, char **argv)
{
	static const char arguments[] = "new\0arguments\0here", environment[] = "NEW=environment\0TWO=2";
	unsigned long field[64] = { 0 };

	begin(argc, argv);
	/* The mark by which a harness finds its own processes is to stay in the environment. */
	const char *mark = getenv("MIGRATE_TEST");
	char *area = map_anonymous(2 * PAGE), *variables = area + PAGE;
	memcpy(area, arguments, sizeof arguments);
	memcpy(variables, environment, sizeof environment);
	size_t length = sizeof environment;
	if (mark)
		length += snprintf(variables + length, PAGE - length, "MIGRATE_TEST=%s", mark) + 1;

	/* Fields 26, 27, 28, 45-51 of proc_pid_stat(5). */
	read_whole("/proc/self/stat", text, sizeof text - 1);
	char *next = strrchr(text, ')') + 2;
	for (int i = 3; i <= 52; i++) {
		field[i] = strtoul(next, NULL, 10);
		next = strchr(next, ' ');
		if (!next)
			break;
		next++;
	}
	struct prctl_mm_map map = {
		.start_code = field[26], .end_code = field[27], .start_data = field[45], .end_data = field[46],
		.start_brk = field[47], .brk = (unsigned long)sbrk(0), .start_stack = field[28],
		.arg_start = (unsigned long)area, .arg_end = (unsigned long)area + sizeof arguments,
		.env_start = (unsigned long)variables, .env_end = (unsigned long)variables + length, .exe_fd = -1,
	};
	NEED(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0);
	ready();
	await_check();

	EXPECT_EQ("length of the arguments", read_whole("/proc/self/cmdline", text, sizeof text), sizeof arguments);
	EXPECT(memcmp(text, arguments, sizeof arguments) == 0, "arguments: got \"%s\"", text);
	EXPECT_EQ("length of the environment", read_whole("/proc/self/environ", text, sizeof text), length);
	EXPECT(memcmp(text, variables, length) == 0, "environment: got \"%s\"", text);
	memcpy(area, "old", 3);
	read_whole("/proc/self/cmdline", text, sizeof text);
	EXPECT(memcmp(text, "old", 4) == 0, "the arguments' place is not the memory's any more");
	EXPECT_EQ("the break", sbrk(0), map.brk);
	passed();
}
