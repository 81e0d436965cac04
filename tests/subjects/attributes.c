/* What prctl and /proc set for a process: huge pages but where advised, merging of equal pages, core filter, OOM adjustment, the nice value of its session. */
#include "subject.h"

#define SET_MEMORY_MERGE 67
#define GET_MEMORY_MERGE 68
#define THP_EXCEPT_ADVISED 2

static int set_file(const char *name, const char *value)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	int ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void expect_file(const char *name, const char *expected)
{
	char text[128];
	size_t length = read_whole(name, text, sizeof text - 1);

	while (length && text[length - 1] == '\n')
		length--;
	text[length] = 0;
	/* The number of a session's group is the host's own. */
	const char *value = strstr(text, "nice ") ? strstr(text, "nice ") : text;
	EXPECT(strcmp(value, expected) == 0, "%s: expected %s, got %s", name, expected, value);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	/* Kernels before 6.18 know no exception, before 6.4 no merging. */
	int exception = prctl(PR_SET_THP_DISABLE, 1, THP_EXCEPT_ADVISED, 0, 0) == 0;
	int merging = prctl(SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
	int session = set_file("/proc/self/autogroup", "7");
	NEED(set_file("/proc/self/coredump_filter", "0x15"));
	NEED(set_file("/proc/self/oom_score_adj", "321"));
	ready();
	await_check();

	if (exception)
		EXPECT_EQ("huge pages off", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1 | THP_EXCEPT_ADVISED);
	if (merging)
		EXPECT_EQ("merging", prctl(GET_MEMORY_MERGE, 0, 0, 0, 0), 1);
	if (session)
		expect_file("/proc/self/autogroup", "nice 7");
	expect_file("/proc/self/coredump_filter", "00000015");
	expect_file("/proc/self/oom_score_adj", "321");
	passed();
}
