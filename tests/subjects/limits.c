/* Every resource limit, soft and hard, and that one of them works. */
#include "subject.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
	struct rlimit before[RLIM_NLIMITS], after;

	begin(argc, argv);
	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		NEED(getrlimit(i, &before[i]) == 0);
		if (i == RLIMIT_NOFILE)
			before[i].rlim_max = 900, before[i].rlim_cur = 77;
		else if (i == RLIMIT_CORE)
			before[i].rlim_cur = 0;
		else if (i == RLIMIT_STACK)
			before[i].rlim_cur = 5 << 20, before[i].rlim_max = before[i].rlim_max < 50UL << 20 ? before[i].rlim_max : 50UL << 20;
		else if (i == RLIMIT_FSIZE)
			before[i].rlim_cur = 123456, before[i].rlim_max = 1 << 30;
		else if (i == RLIMIT_MSGQUEUE)
			before[i].rlim_cur = 4000, before[i].rlim_max = 5000;
		else if (i == RLIMIT_RTTIME)
			before[i].rlim_cur = 5000000;
		NEED(setrlimit(i, &before[i]) == 0);
	}
	ready();
	await_check();

	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		char what[32];

		EXPECT_OK(getrlimit(i, &after));
		snprintf(what, sizeof what, "soft limit %d", i);
		EXPECT_EQ(what, after.rlim_cur, before[i].rlim_cur);
		snprintf(what, sizeof what, "hard limit %d", i);
		EXPECT_EQ(what, after.rlim_max, before[i].rlim_max);
	}
	EXPECT(dup2(0, 77) == -1 && errno == EBADF, "a descriptor beyond the limit: %s", strerror(errno));
	EXPECT_OK(dup2(0, 76));
	passed();
}
