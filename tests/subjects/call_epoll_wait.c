/* Moved inside epoll_wait with a timeout; the kernel itself answers EINTR there, which must not be seen. */
#include "call.h"
#include <sys/epoll.h>

static int epoll;

static struct answer call(void)
{
	struct epoll_event event;

	return ANSWER(syscall(SYS_epoll_wait, epoll, &event, 1, CALL_MS));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int ends[2];
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	NEED(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
	repeat_until_check("epoll_wait", call, (struct answer){ 0, 0 });
}
