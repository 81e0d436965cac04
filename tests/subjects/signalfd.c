/*
 * Signals by descriptor: which ones each gives, flags, one that is watched by an epoll; signals that wait (of the process, of a thread) are
 * read after the move, as they were sent.
 */
#include "subject.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>

static struct signalfd_siginfo take(int fd)
{
	struct signalfd_siginfo info = { 0 };

	EXPECT(read(fd, &info, sizeof info) == sizeof info, "read of a signalfd: %s", strerror(errno));
	return info;
}

static sigset_t these(int first, int second, int third)
{
	sigset_t set;

	sigemptyset(&set);
	for (int i = 0; i < 3; i++)
		sigaddset(&set, i == 0 ? first : i == 1 ? second : third);
	return set;
}

static volatile int in_thread, thread_may_look;

static void *thread(void *argument)
{
	/* Sent to this thread alone: another one does not see it. */
	pthread_sigqueue(pthread_self(), SIGRTMIN + 3, (union sigval){ .sival_int = 77 });
	in_thread = 1;
	while (!thread_may_look)
		pause_ms(1);
	struct signalfd_siginfo info = take(*(int *)argument);
	EXPECT_EQ("the thread's signal", info.ssi_signo, SIGRTMIN + 3);
	EXPECT_EQ("its value", info.ssi_int, 77);
	return NULL;
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 5 }, got;
	struct signalfd_siginfo info;

	begin(argc, argv);
	sigset_t all = these(SIGUSR1, SIGUSR2, SIGRTMAX), some = these(SIGUSR1, SIGUSR1, SIGRTMAX), other = these(SIGUSR2, SIGUSR2, SIGUSR2);
	sigset_t threads = these(SIGRTMIN + 3, SIGRTMIN + 3, SIGRTMIN + 3);
	NEED(sigprocmask(SIG_BLOCK, &all, NULL) == 0 && sigprocmask(SIG_BLOCK, &threads, NULL) == 0);
	int plain = signalfd(-1, &some, SFD_NONBLOCK | SFD_CLOEXEC), second = signalfd(-1, &all, SFD_NONBLOCK);
	int of_thread = signalfd(-1, &threads, SFD_NONBLOCK);
	/* Changed since it was made. */
	NEED(plain >= 0 && second >= 0 && of_thread >= 0 && signalfd(second, &other, 0) == second);
	int epoll = epoll_create1(0);
	NEED(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, plain, &event) == 0);
	pthread_t waiting = start_thread(thread, &of_thread);
	while (!in_thread)
		pause_ms(1);
	NEED(sigqueue(getpid(), SIGRTMAX, (union sigval){ .sival_int = 4711 }) == 0);
	NEED(kill(getpid(), SIGUSR1) == 0);
	ready();
	await_check();

	EXPECT_EQ("flags", fcntl(plain, F_GETFL), O_RDWR | O_NONBLOCK);
	EXPECT_EQ("close-on-exec", fcntl(plain, F_GETFD), FD_CLOEXEC);
	EXPECT(epoll_wait(epoll, &got, 1, 0) == 1 && got.data.u64 == 5, "the epoll does not tell of the signals that wait");
	info = take(plain);
	EXPECT_EQ("the first signal", info.ssi_signo, SIGUSR1);
	EXPECT_EQ("who sent it", info.ssi_pid, getpid());
	info = take(plain);
	EXPECT_EQ("the second signal", info.ssi_signo, SIGRTMAX);
	EXPECT_EQ("its value", info.ssi_int, 4711);
	EXPECT(read(plain, &info, sizeof info) == -1 && errno == EAGAIN, "more signals than were sent");
	EXPECT(epoll_wait(epoll, &got, 1, 0) == 0, "the epoll tells of signals that have been read");
	EXPECT_OK(kill(getpid(), SIGUSR2));
	EXPECT(read(plain, &info, sizeof info) == -1 && errno == EAGAIN, "it gives a signal that is not its own");
	EXPECT_EQ("the other one's signal", take(second).ssi_signo, SIGUSR2);
	/* The epoll is told of a signal that comes now. */
	EXPECT_OK(kill(getpid(), SIGUSR1));
	EXPECT(epoll_wait(epoll, &got, 1, 10000) == 1, "the epoll does not tell of a new signal");
	thread_may_look = 1;
	pthread_join(waiting, NULL);
	passed();
}
