/* Member of a session and a process group that it does not lead, and whose leader has ended. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (fork() != 0)
		_exit(0);
	/* The leader-to-be and its child. */
	NEED(setsid() == getpid());
	pid_t leader = getpid();
	if (fork() != 0)
		_exit(0);
	while (getppid() == leader)
		pause_ms(1);
	NEED(getsid(0) == leader && getpgid(0) == leader && leader != getpid());
	pid_t session = getsid(0), group = getpgid(0);
	ready();
	await_check();

	EXPECT_EQ("session", getsid(0), session);
	EXPECT_EQ("process group", getpgid(0), group);
	EXPECT(session != getpid() && group != getpid(), "it leads now");
	EXPECT(setsid() == getpid(), "setsid: %s", strerror(errno));
	passed();
}
