/* A process that stays: its number means nothing over there. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = (int)syscall(SYS_pidfd_open, getppid(), 0);
	NEED(fd >= 0);
	ready();
	await_check();
	EXPECT_EQ("a signal to nobody", syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), 0);
	passed();
}
