/* Moved inside epoll_pwait2 with a time-out and a mask of its own; the process's mask is back afterwards. */
#include "call.h"
#include <sys/epoll.h>

static int epoll;

static struct answer call(void)
{
	struct epoll_event event;
	struct timespec time = { 0, CALL_NS };
	uint64_t mask = 1 << (SIGUSR1 - 1), before = 0, after = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &before, 8);
	struct answer answer = ANSWER(syscall(SYS_epoll_pwait2, epoll, &event, 1, &time, &mask, 8));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &after, 8);
	EXPECT_EQ("the mask after epoll_pwait2", after, before);
	return answer;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	uint64_t mask = 1 << (SIGUSR2 - 1);
	NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8) == 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	NEED(epoll >= 0);
	repeat_until_check("epoll_pwait2", call, (struct answer){ 0, 0 });
}
