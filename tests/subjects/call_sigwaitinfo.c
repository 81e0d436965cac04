/* Moved inside sigwaitinfo: the signal it waits for comes with its value. */
#include "call.h"

static siginfo_t info;

static struct answer call(void)
{
	uint64_t set = 1ULL << (SIGRTMIN + 1 - 1);

	NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8) == 0);
	return ANSWER(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8));
}

static void queue(pid_t tid)
{
	union sigval value = { .sival_ptr = (void *)0x123456789abcUL };

	(void)tid;
	EXPECT_OK(sigqueue(getpid(), SIGRTMIN + 1, value));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	sigset_t mask = only(SIGRTMIN + 1);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	block_until_check("sigwaitinfo", call, queue, (struct answer){ SIGRTMIN + 1, 0 });
	EXPECT_EQ("the value", info.si_value.sival_ptr, 0x123456789abcUL);
	EXPECT_EQ("si_code", info.si_code, SI_QUEUE);
	passed();
}
