/* Moved with a thread in each of the waits of which the kernel notes nothing: made again, they last as long as from their beginning. */
#include "wait.h"
#include <sys/epoll.h>

static int epoll;

static struct answer wait_by_milliseconds(const struct timespec *time)
{
	struct epoll_event event;

	return ANSWER(epoll_wait(epoll, &event, 1, time->tv_sec * 1000 + time->tv_nsec / 1000000));
}

static struct answer wait_with_mask(const struct timespec *time)
{
	struct epoll_event event;
	sigset_t none = only(SIGUSR2);

	return ANSWER(epoll_pwait(epoll, &event, 1, time->tv_sec * 1000 + time->tv_nsec / 1000000, &none));
}

static struct answer wait_by_time(const struct timespec *time)
{
	struct epoll_event event;

	return ANSWER(syscall(SYS_epoll_pwait2, epoll, &event, 1, time, NULL, 8));
}

static struct answer wait_for_signal(const struct timespec *time)
{
	sigset_t set = only(SIGUSR1);

	return ANSWER(sigtimedwait(&set, NULL, time));
}

static struct wait waits[] = {
	{ .name = "epoll_wait", .call = wait_by_milliseconds },
	{ .name = "epoll_pwait", .call = wait_with_mask },
	{ .name = "epoll_pwait2", .call = wait_by_time },
	{ .name = "sigtimedwait", .call = wait_for_signal, .expected = { -1, EAGAIN } },
};

int main(int argc, char **argv)
{
	begin(argc, argv);
	sigset_t mask = only(SIGUSR1);
	int ends[2];
	struct epoll_event event = { .events = EPOLLIN };
	NEED(pthread_sigmask(SIG_BLOCK, &mask, NULL) == 0);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	NEED(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
	wait_in_threads(waits, sizeof waits / sizeof *waits);
}
