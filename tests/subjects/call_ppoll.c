/* Moved inside ppoll with a timeout and a mask of its own; the process's mask is back afterwards. */
#include "call.h"
#include <poll.h>

static int ends[2];

static struct answer call(void)
{
	struct pollfd fd = { ends[0], POLLIN, 0 };
	struct timespec time = { 0, CALL_NS };
	uint64_t mask = 1 << (SIGUSR1 - 1), before = 0, after = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &before, 8);
	struct answer answer = ANSWER(syscall(SYS_ppoll, &fd, 1, &time, &mask, 8));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &after, 8);
	EXPECT_EQ("the mask after ppoll", after, before);
	return answer;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	uint64_t mask = 1 << (SIGUSR2 - 1);
	NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8) == 0);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	repeat_until_check("ppoll", call, (struct answer){ 0, 0 });
}
