/* Moved inside a read of a signalfd. */
#include "call.h"
#include <sys/signalfd.h>

static int signals;
static struct signalfd_siginfo got;

static struct answer call(void)
{
	return ANSWER(read(signals, &got, sizeof got));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	sigset_t set = only(SIGUSR1);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	NEED(signals >= 0);
	block_until_check("signalfd_read", call, send_to_thread, (struct answer){ sizeof got, 0 });
	EXPECT_EQ("the signal", got.ssi_signo, SIGUSR1);
	passed();
}
