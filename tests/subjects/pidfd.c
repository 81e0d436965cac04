/*
 * Processes by descriptor: of itself, of a thread, of its first thread, of one that has ended (with the status that it ended with, where
 * the kernel tells), one that an epoll watches; flags.
 */
#include "subject.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define THREAD O_EXCL /* PIDFD_THREAD */

static int pidfd_open_(pid_t pid, int flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static int send(int fd, int signal)
{
	return (int)syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0);
}

static int readable_now(int fd)
{
	struct pollfd asked = { fd, POLLIN, 0 };

	EXPECT_OK(poll(&asked, 1, 0));
	return asked.revents != 0;
}

/* -1: this kernel does not tell. */
static int status_of(int fd)
{
	struct { uint64_t mask, cgroup; uint32_t ids[11]; int32_t exit; } info = { .mask = 1 << 3 };

	return ioctl(fd, _IOWR(0xff, 11, info), &info) == 0 && info.mask & 1 << 3 ? info.exit : -1;
}

static volatile int handled, tid_of_handler;

static void handler(int signal)
{
	(void)signal;
	tid_of_handler = (int)syscall(SYS_gettid);
	handled = 1;
}

static volatile pid_t tid;
static volatile int thread_may_end;

static void *thread(void *unused)
{
	(void)unused;
	tid = (pid_t)syscall(SYS_gettid);
	while (!thread_may_end)
		pause_ms(1);
	return NULL;
}

static int ended(int how)
{
	pid_t child = fork();

	NEED(child >= 0);
	if (child == 0) {
		if (how < 0)
			kill(getpid(), -how);
		_exit(how);
	}
	int fd = pidfd_open_(child, 0);
	NEED(fd >= 0 && waitpid(child, NULL, 0) == child);
	return fd;
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN }, got;
	struct sigaction action = { .sa_handler = handler };

	begin(argc, argv);
	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
	pthread_t other = start_thread(thread, NULL);
	while (tid == 0)
		pause_ms(1);
	int itself = pidfd_open_(getpid(), O_NONBLOCK), first = pidfd_open_(getpid(), THREAD), second = pidfd_open_(tid, THREAD);
	if (first < 0 && errno == EINVAL)
		skipped("this kernel has no PIDFD_THREAD");
	int exited = ended(7), killed = ended(-SIGTERM);
	NEED(itself >= 0 && first >= 0 && second >= 0);
	int another = dup(itself), epoll = epoll_create1(0);
	NEED(another >= 0 && epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, second, &event) == 0);
	int statuses[2] = { status_of(exited), status_of(killed) };
	ready();
	await_check();

	EXPECT_EQ("flags", fcntl(itself, F_GETFL), O_RDWR | O_NONBLOCK);
	EXPECT_EQ("close-on-exec", fcntl(itself, F_GETFD), FD_CLOEXEC);
	EXPECT(!readable_now(itself) && !readable_now(first) && !readable_now(second), "one that runs is said to have ended");
	EXPECT(readable_now(exited) && readable_now(killed), "one that has ended is said to run");
	EXPECT(send(exited, 0) == -1 && errno == ESRCH, "one that has ended takes a signal");
	EXPECT_EQ("how one has ended", status_of(exited), statuses[0]);
	EXPECT_EQ("how another one has ended", status_of(killed), statuses[1]);
	EXPECT_OK(send(another, SIGUSR1));
	while (!handled)
		pause_ms(1);
	handled = 0;
	EXPECT_OK(send(second, SIGUSR1));
	while (!handled)
		pause_ms(1);
	EXPECT_EQ("the thread that was sent a signal", tid_of_handler, tid);
	handled = 0;
	EXPECT_OK(send(first, SIGUSR1));
	while (!handled)
		pause_ms(1);
	EXPECT_EQ("the thread that was sent a signal", tid_of_handler, getpid());
	EXPECT(epoll_wait(epoll, &got, 1, 0) == 0, "the epoll tells of the end of a thread that runs");
	thread_may_end = 1;
	EXPECT(epoll_wait(epoll, &got, 1, 10000) == 1, "the epoll does not tell of the thread's end");
	pthread_join(other, NULL);
	passed();
}
