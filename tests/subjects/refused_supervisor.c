/* A filter that asks a supervisor (SECCOMP_RET_USER_NOTIF): refused, also when nobody listens any more. */
#include "seccomp.h"

int main(int argc, char **argv)
{
	struct sock_filter list[] = {
		LOAD_NUMBER,
		IF_CALL(SYS_getppid, SECCOMP_RET_USER_NOTIF),
		ANSWER(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { LENGTH(list), list };

	begin(argc, argv);
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	NEED(listener >= 0);
	close(listener);
	ready();
	await_check();
	expect_error("nobody listens", SYS_getppid, ENOSYS);
	passed();
}
