/* The controlling terminal of a session that only this process is in: /dev/tty, session, foreground group, the signal of a key. */
#include "pty.h"

static volatile int interrupted;

static void on_interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	begin(argc, argv);
	NEED(getsid(0) == getpid() && sigaction(SIGINT, &action, NULL) == 0);
	int master = master_of(0), slave = slave_of(master, O_RDWR);
	NEED(ioctl(slave, TIOCSCTTY, 0) == 0 && tcgetsid(slave) == getpid() && tcgetpgrp(slave) == getpgrp());
	ready();
	await_check();

	EXPECT_EQ("the session", tcgetsid(slave), getpid());
	EXPECT_EQ("the foreground group", tcgetpgrp(slave), getpgrp());
	int tty = open("/dev/tty", O_RDWR);
	EXPECT(tty >= 0, "/dev/tty: %s", strerror(errno));
	expect_through("by /dev/tty", tty, "x", master, "x");
	EXPECT_EQ("the key's length", write(master, "\003", 1), 1);
	for (int i = 0; i < 10000 && !interrupted; i++)
		pause_ms(1);
	EXPECT(interrupted, "no SIGINT for ^C");
	passed();
}
