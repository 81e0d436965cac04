/* Moved inside epoll_wait without a time-out: what makes a descriptor ready over there wakes it. */
#include "call.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int epoll, event_fd;

static struct answer call(void)
{
	struct epoll_event event = { 0 };
	struct answer answer = ANSWER(syscall(SYS_epoll_wait, epoll, &event, 1, -1));

	EXPECT(event.data.u64 == 0x1234567890, "the event's data are %llx", (unsigned long long)event.data.u64);
	return answer;
}

static void wake(pid_t tid)
{
	uint64_t one = 1;

	(void)tid;
	EXPECT_EQ("write", write(event_fd, &one, 8), 8);
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = 0x1234567890 };

	begin(argc, argv);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	event_fd = eventfd(0, EFD_CLOEXEC);
	NEED(epoll >= 0 && event_fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, event_fd, &event) == 0);
	block_until_check("epoll_wait", call, wake, (struct answer){ 1, 0 });
	passed();
}
