/* A filter that kills for any call that the subject does not need, installed by root (no no_new_privs), who then became somebody else. */
#include "seccomp.h"

int main(int argc, char **argv)
{
	struct sock_filter list[] = {
		LOAD_NUMBER,
		IF_CALL(SYS_getppid, SECCOMP_RET_ERRNO | 33),
		IF_CALL(SYS_newfstatat, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_stat, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_nanosleep, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_clock_nanosleep, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_restart_syscall, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_gettid, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_getpid, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_getuid, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_openat, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_write, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_close, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_rename, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_exit_group, SECCOMP_RET_ALLOW),
		IF_CALL(SYS_setresuid, SECCOMP_RET_ALLOW),
		ANSWER(SECCOMP_RET_KILL_PROCESS),
	};

	begin(argc, argv);
	if (geteuid() != 0)
		skipped("a filter without no_new_privs takes root");
	NEED(chown(subject_dir, 1001, 1001) == 0 && chmod(subject_dir, 0777) == 0);
	install(list, LENGTH(list), 0);
	NEED(syscall(SYS_setresuid, 1001, 1001, 1001) == 0);
	ready();
	await_check();
	EXPECT_EQ("user", syscall(SYS_getuid), 1001);
	expect_error("its filter", SYS_getppid, 33);
	passed();
}
