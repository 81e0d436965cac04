/* A hardware breakpoint that a debugger has left behind: refused. */
#include "subject.h"
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

static volatile uint64_t watched;

/* What a debugger does, from a child of a child: the subject must have no children. */
static void watch(pid_t pid)
{
	size_t at = offsetof(struct user, u_debugreg);
	/* Of 8 bytes at the first address, when they are written. */
	unsigned long control = 1 | 0x9 << 16;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0) != 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0 ||
	    waitpid(pid, NULL, __WALL) != pid || ptrace(PTRACE_POKEUSER, pid, at, &watched) != 0 ||
	    ptrace(PTRACE_POKEUSER, pid, at + 7 * 8, control) != 0)
		_exit(1);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	_exit(0);
}

int main(int argc, char **argv)
{
	int status;

	begin(argc, argv);
	pid_t self = getpid(), debugger = fork();
	NEED(debugger >= 0);
	if (debugger == 0)
		watch(self);
	NEED(waitpid(debugger, &status, 0) == debugger);
	if (status != 0)
		skipped("hardware breakpoints cannot be set here");
	ready();
	await_check();
	passed();
}
