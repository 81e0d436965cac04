/* Moved inside sigsuspend: its mask holds in there, the old one is back afterwards. */
#include "call.h"

static struct answer call(void)
{
	uint64_t blocked = 1 << (SIGUSR1 - 1) | 1 << (SIGUSR2 - 1), inside = 1 << (SIGUSR2 - 1), after = 0;

	NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8) == 0);
	struct answer answer = ANSWER(syscall(SYS_rt_sigsuspend, &inside, 8));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &after, 8);
	EXPECT_EQ("the mask after sigsuspend", after, blocked);
	return answer;
}

static void send_both(pid_t tid)
{
	/* Blocked in there: does not end it. */
	EXPECT_OK(syscall(SYS_tgkill, getpid(), tid, SIGUSR2));
	pause_ms(50);
	EXPECT(!blocking_done_, "a signal that sigsuspend blocks has ended it");
	send_to_thread(tid);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	handle_usr1();
	block_until_check("sigsuspend", call, send_both, (struct answer){ -1, EINTR });
	EXPECT_EQ("times the handler ran", handled_, 1);
	passed();
}
