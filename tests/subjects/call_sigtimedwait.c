/* Moved inside rt_sigtimedwait; the kernel itself answers EINTR there, which must not be seen. */
#include "call.h"

static struct answer call(void)
{
	uint64_t set = 1 << (SIGUSR1 - 1);
	struct timespec time = { 0, CALL_NS };

	return ANSWER(syscall(SYS_rt_sigtimedwait, &set, NULL, &time, 8));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	uint64_t mask = 1 << (SIGUSR1 - 1);
	NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8) == 0);
	repeat_until_check("sigtimedwait", call, (struct answer){ -1, EAGAIN });
}
