/* Five hundred open files, each at its own offset. */
#include "subject.h"
#include <sys/resource.h>

#define COUNT 500

int main(int argc, char **argv)
{
	int fds[COUNT];
	struct rlimit limit;

	begin(argc, argv);
	NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	NEED(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int i = 0; i < COUNT; i++) {
		char name[32];

		snprintf(name, sizeof name, "file %d", i);
		fds[i] = make_file(name, 1, i);
		NEED(lseek(fds[i], i * 8, SEEK_SET) == i * 8);
	}
	ready();
	await_check();
	for (int i = 0; i < COUNT; i++) {
		uint64_t word = 0;

		EXPECT_EQ("length read", read(fds[i], &word, 8), 8);
		EXPECT_EQ("content at the offset", word, pattern(i, i));
	}
	passed();
}
