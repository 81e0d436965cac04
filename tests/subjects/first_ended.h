/* The first thread ends, and others go on with what all of them share. */
#ifndef FIRST_ENDED_H
#define FIRST_ENDED_H
#include "subject.h"
#include <sys/resource.h>

static pid_t first_tid UNUSED;

static UNUSED int first_is_a_zombie(void)
{
	char text[4096] = "";

	read_whole("/proc/self/status", text, sizeof text - 1);
	return strstr(text, "State:\tZ") != NULL;
}

static UNUSED void await_end_of_first(void)
{
	while (!first_is_a_zombie())
		pause_ms(1);
}

/* The first thread makes itself known, and blocks what others do not. */
static UNUSED void be_the_first(void)
{
	sigset_t mask;

	first_tid = (pid_t)syscall(SYS_gettid);
	NEED(first_tid == getpid());
	NEED(prctl(PR_SET_NAME, "the first one") == 0);
	NEED(setpriority(PRIO_PROCESS, 0, 5) == 0);
	NEED(prctl(PR_SET_TIMERSLACK, 123456) == 0);
	sigemptyset(&mask);
	sigaddset(&mask, SIGWINCH);
	sigaddset(&mask, SIGRTMIN + 5);
	NEED(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
}

static UNUSED void *stay(void *with)
{
	await_end_of_first();
	write_whole("left", "");
	while (kill((pid_t)(uintptr_t)with, 0) == 0)
		pause_ms(50);
	_exit(0);
}

/* Like leave_one_behind, but the first thread of what stays has ended. */
static UNUSED void leave_one_without_first(void)
{
	pid_t self = getpid(), between = fork();
	struct stat status;
	pthread_t thread;

	NEED(between >= 0);
	if (between == 0) {
		if (fork() == 0) {
			NEED(pthread_create(&thread, NULL, stay, (void *)(uintptr_t)self) == 0);
			syscall(SYS_exit, 0);
		}
		_exit(0);
	}
	NEED(waitpid(between, NULL, 0) == between);
	while (stat(path_of("left"), &status) != 0)
		pause_ms(1);
}

static UNUSED void expect_first_ended(void)
{
	char name[32] = "";

	/* It ends while others begin to run. */
	for (int ms = 0; ms < 2000 && !first_is_a_zombie(); ms++)
		pause_ms(1);
	EXPECT(first_is_a_zombie(), "the first thread is alive again");
	EXPECT_EQ("getpid", getpid(), first_tid);
	EXPECT(syscall(SYS_gettid) != first_tid, "another thread became the first");
	read_whole("/proc/self/comm", name, sizeof name - 1);
	EXPECT(strcmp(name, "the first one\n") == 0, "the first thread's name is %s", name);
	EXPECT_EQ("a signal to the process", kill(getpid(), 0), 0);
}

#endif
