/* Leader of a process group in a session that it does not lead. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (fork() != 0)
		_exit(0);
	NEED(setsid() == getpid());
	pid_t leader = getpid();
	if (fork() != 0)
		_exit(0);
	while (getppid() == leader)
		pause_ms(1);
	NEED(setpgid(0, 0) == 0 && getsid(0) == leader);
	pid_t session = getsid(0), group = getpgid(0);
	ready();
	await_check();

	EXPECT_EQ("session", getsid(0), session);
	EXPECT_EQ("process group", getpgid(0), group);
	EXPECT_EQ("the group it leads", group, getpid());
	EXPECT(session != getpid(), "it leads its session now");
	passed();
}
