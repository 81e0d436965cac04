/* A SIGCONT that is blocked and waits: the move, which stops the process and continues it, does not lose it. */
#include "subject.h"

static volatile int continued;

static void on_continue(int signal)
{
	(void)signal;
	continued++;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_continue };
	sigset_t set, waiting;

	begin(argc, argv);
	NEED(sigaction(SIGCONT, &action, NULL) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGCONT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	NEED(kill(getpid(), SIGCONT) == 0);
	ready();
	await_check();

	EXPECT_OK(sigpending(&waiting));
	EXPECT(sigismember(&waiting, SIGCONT), "SIGCONT does not wait any more");
	EXPECT_EQ("SIGCONT handled", continued, 0);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	EXPECT_EQ("SIGCONT handled", continued, 1);
	passed();
}
