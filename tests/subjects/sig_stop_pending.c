/* A SIGTSTP that is blocked and waits: it stops nothing, neither on the way nor over there, and still waits. */
#include "subject.h"

int main(int argc, char **argv)
{
	sigset_t set, waiting;

	begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGTSTP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	NEED(kill(getpid(), SIGTSTP) == 0);
	ready();
	await_check();

	EXPECT_OK(sigpending(&waiting));
	EXPECT(sigismember(&waiting, SIGTSTP), "SIGTSTP does not wait any more");
	int signal;
	EXPECT_EQ("sigwait", sigwait(&set, &signal), 0);
	EXPECT_EQ("the signal", signal, SIGTSTP);
	passed();
}
