/*
 * A process with one thread, moved inside epoll_wait with a time-out, on the first processor it may use, which the test keeps busy
 * meanwhile: when it is stopped again, it has mostly not come to the call yet that the stop before has made begin anew.
 */
#include "wait.h"
#include <sys/epoll.h>

static int epoll;

static struct answer call(const struct timespec *time)
{
	struct epoll_event event;

	return ANSWER(epoll_wait(epoll, &event, 1, time->tv_sec * 1000 + time->tv_nsec / 1000000));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	cpu_set_t allowed, first;
	int cpu = 0;

	NEED(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	NEED(sched_setaffinity(0, sizeof first, &first) == 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	NEED(epoll >= 0);
	wait_alone("epoll_wait", call, (struct answer){ 0, 0 });
}
