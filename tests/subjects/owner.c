/*
 * Whom the kernel tells of events on a descriptor, by which signal, and whether: a thread, the process, its group; the process by the ID of
 * another thread; somebody who is gone; nobody any more.
 */
#include "subject.h"

#define F_OWNER_TID_ 0
#define F_OWNER_PID_ 1
#define F_OWNER_PGRP_ 2

static volatile sig_atomic_t told_fd = -1, told_by;
static volatile pid_t told_in, tid_of_other;
static volatile int stop;

static void on_event(int signal, siginfo_t *info, void *context)
{
	(void)context;
	told_by = signal;
	told_fd = info->si_fd;
	told_in = (pid_t)syscall(SYS_gettid);
}

static void *other(void *unused)
{
	(void)unused;
	tid_of_other = (pid_t)syscall(SYS_gettid);
	while (!stop)
		pause_ms(1);
	return NULL;
}

static void expect_owner(const char *what, int fd, int type, pid_t id, int signal)
{
	struct f_owner_ex owner;

	EXPECT_OK(fcntl(fd, F_GETOWN_EX, &owner));
	EXPECT_EQ(what, owner.type, type);
	EXPECT_EQ(what, owner.pid, id);
	EXPECT_EQ(what, fcntl(fd, F_GETSIG), signal);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_event, .sa_flags = SA_SIGINFO | SA_RESTART };
	int of_thread[2], of_process[2], of_group[2], signal_only[2], by_thread[2], of_gone[2], of_no_group[2];
	struct f_owner_ex owner;

	begin(argc, argv);
	NEED(sigaction(SIGRTMIN + 3, &action, NULL) == 0 && sigaction(SIGIO, &action, NULL) == 0);
	pthread_t thread = start_thread(other, NULL);
	while (!tid_of_other)
		pause_ms(1);
	NEED(pipe(of_thread) == 0 && pipe(of_process) == 0 && pipe(of_group) == 0 && pipe(signal_only) == 0);
	owner = (struct f_owner_ex){ F_OWNER_TID_, tid_of_other };
	NEED(fcntl(of_thread[0], F_SETOWN_EX, &owner) == 0 && fcntl(of_thread[0], F_SETSIG, SIGRTMIN + 3) == 0);
	NEED(fcntl(of_thread[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
	NEED(fcntl(of_process[0], F_SETOWN, getpid()) == 0);
	owner = (struct f_owner_ex){ F_OWNER_PGRP_, getpgrp() };
	NEED(fcntl(of_group[0], F_SETOWN_EX, &owner) == 0);
	NEED(fcntl(signal_only[1], F_SETSIG, SIGUSR2) == 0);
	NEED(pipe(by_thread) == 0 && pipe(of_gone) == 0 && pipe(of_no_group) == 0);
	NEED(fcntl(by_thread[0], F_SETOWN, tid_of_other) == 0 && fcntl(by_thread[0], F_SETFL, O_ASYNC) == 0);
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	NEED(child > 0 && fcntl(of_gone[0], F_SETOWN, child) == 0 && waitpid(child, NULL, 0) == child);
	owner = (struct f_owner_ex){ F_OWNER_PGRP_, 0 };
	NEED(fcntl(of_no_group[0], F_SETOWN_EX, &owner) == 0);
	/* Something waits in it, which it has been told of. */
	NEED(write(of_thread[1], "before", 6) == 6);
	while (told_fd == -1)
		pause_ms(1);
	told_fd = -1;
	ready();
	await_check();

	EXPECT_EQ("told by the move", told_fd, -1);
	expect_owner("of a thread", of_thread[0], F_OWNER_TID_, tid_of_other, SIGRTMIN + 3);
	expect_owner("of the process", of_process[0], F_OWNER_PID_, getpid(), 0);
	expect_owner("of its group", of_group[0], F_OWNER_PGRP_, getpgrp(), 0);
	expect_owner("with a signal alone", signal_only[1], F_OWNER_TID_, 0, SIGUSR2);
	/* So the kernel shows this one. */
	expect_owner("by a thread", by_thread[0], F_OWNER_PID_, 0, 0);
	expect_owner("of one who is gone", of_gone[0], F_OWNER_PID_, 0, 0);
	expect_owner("of no group", of_no_group[0], F_OWNER_PGRP_, 0, 0);
	EXPECT_EQ("flags", fcntl(of_thread[0], F_GETFL) & (O_ASYNC | O_NONBLOCK), O_ASYNC | O_NONBLOCK);
	EXPECT_EQ("flags of the process's", fcntl(of_process[0], F_GETFL) & O_ASYNC, 0);
	EXPECT_EQ("written", write(of_thread[1], "after", 5), 5);
	for (int i = 0; i < 5000 && told_fd == -1; i++)
		pause_ms(1);
	EXPECT_EQ("the descriptor told of", told_fd, of_thread[0]);
	EXPECT_EQ("the signal", told_by, SIGRTMIN + 3);
	EXPECT_EQ("the thread", told_in, tid_of_other);
	told_by = 0;
	EXPECT_EQ("written", write(by_thread[1], "after", 5), 5);
	for (int i = 0; i < 5000 && told_by == 0; i++)
		pause_ms(1);
	EXPECT_EQ("the signal by a thread's ID", told_by, SIGIO);
	stop = 1;
	pthread_join(thread, NULL);
	passed();
}
