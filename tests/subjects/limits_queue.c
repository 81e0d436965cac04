/* RLIMIT_SIGPENDING lowered below the number of signals that wait: they arrive all the same, in order. */
#include "subject.h"
#include <sys/resource.h>

#define SIGNALS 6

int main(int argc, char **argv)
{
	struct rlimit limit = { 2, 3 };
	sigset_t set;

	begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (int i = 0; i < SIGNALS; i++)
		NEED(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i }) == 0);
	NEED(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
	ready();
	await_check();

	for (int i = 0; i < SIGNALS; i++) {
		siginfo_t info;

		EXPECT_EQ("signal", sigtimedwait(&set, &info, &(struct timespec){ 0, 0 }), SIGRTMIN);
		EXPECT_EQ("its value", info.si_value.sival_int, i);
	}
	EXPECT_OK(getrlimit(RLIMIT_SIGPENDING, &limit));
	EXPECT_EQ("soft limit", limit.rlim_cur, 2);
	EXPECT_EQ("hard limit", limit.rlim_max, 3);
	passed();
}
