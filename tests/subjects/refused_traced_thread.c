/* One of its threads is traced by somebody else: refused, with the tracer's name. */
#include "subject.h"
#include <sys/ptrace.h>
#include <sys/wait.h>

static volatile pid_t tid;

static void *traced(void *unused)
{
	(void)unused;
	tid = syscall(SYS_gettid);
	await_check();
	return NULL;
}

/* Not the subject's child: it may have none. */
static void trace(void)
{
	prctl(PR_SET_NAME, "a debugger");
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0)
		_exit(1);
	write_whole("traced", "");
	await_check();
	_exit(0);
}

int main(int argc, char **argv)
{
	struct stat status;

	begin(argc, argv);
	pthread_t thread = start_thread(traced, NULL);
	while (!tid)
		pause_ms(1);
	pid_t between = fork();
	NEED(between >= 0);
	if (between == 0) {
		if (fork() == 0)
			trace();
		_exit(0);
	}
	NEED(waitpid(between, NULL, 0) == between);
	while (stat(path_of("traced"), &status) != 0)
		pause_ms(1);
	ready();
	await_check();
	pthread_join(thread, NULL);
	passed();
}
