/* A process with one thread, moved inside epoll_wait with a time-out: the kernel notes nothing of what is left of it. */
#include "wait.h"
#include <sys/epoll.h>

static int epoll;

static struct answer call(const struct timespec *time)
{
	struct epoll_event event;
	long answer;
	/* What the kernel does not change in a call the program may use after it. */
	register long timeout asm("r10") = time->tv_sec * 1000 + time->tv_nsec / 1000000;
	const long whole = timeout;

	asm volatile("syscall"
		     : "=a"(answer), "+r"(timeout)
		     : "a"(SYS_epoll_wait), "D"(epoll), "S"(&event), "d"(1)
		     : "rcx", "r11", "memory");
	EXPECT(timeout == whole, "epoll_wait: r10 was %ld and is %ld", whole, timeout);
	return (struct answer){ answer, 0 };
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int ends[2];
	struct epoll_event event = { .events = EPOLLIN };
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	NEED(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
	wait_alone("epoll_wait", call, (struct answer){ 0, 0 });
}
