/* PR_SET_PDEATHSIG: its parent stays behind, and the signal does not come, neither because of the move nor later. */
#include "subject.h"

static volatile int came;

static void count(int signal)
{
	(void)signal;
	came++;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(signal(SIGUSR2, count) != SIG_ERR);
	NEED(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
	ready();
	await_check();
	pause_ms(50);
	EXPECT_EQ("signals", came, 0);
	passed();
}
