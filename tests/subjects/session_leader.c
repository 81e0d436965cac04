/* Leader of a session and of its process group. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	/* Already the leader of a group: only a child can begin a session. */
	if (getsid(0) != getpid()) {
		if (getpgid(0) == getpid() && fork() != 0)
			_exit(0);
		NEED(setsid() == getpid());
	}
	pid_t session = getsid(0), group = getpgid(0);
	ready();
	await_check();

	EXPECT_EQ("session", getsid(0), session);
	EXPECT_EQ("process group", getpgid(0), group);
	EXPECT(setsid() == -1 && errno == EPERM, "a leader could begin another session");
	passed();
}
