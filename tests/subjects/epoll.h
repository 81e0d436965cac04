/* Waiting on an epoll. */
#ifndef EPOLL_H
#define EPOLL_H
#include "subject.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static UNUSED void add(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* All that is to be told now: the events of the one with this data, 0 when it is not told. */
static UNUSED uint32_t told(int epoll, uint64_t data, int *all)
{
	static struct epoll_event events[4096];
	int count = epoll_wait(epoll, events, 4096, 0);
	uint32_t found = 0;

	EXPECT(count >= 0, "epoll_wait: %s", strerror(errno));
	for (int i = 0; i < count; i++)
		if (events[i].data.u64 == data)
			found = events[i].events;
	if (all)
		*all = count;
	return found;
}

static UNUSED void expect_told(const char *what, int epoll, uint64_t data, uint32_t events)
{
	int all;
	uint32_t got = told(epoll, data, &all);

	EXPECT(got == events, "%s: expected events %x, got %x", what, events, got);
	EXPECT_EQ(what, all, events ? 1 : 0);
}

static UNUSED void count_up(int fd)
{
	uint64_t one = 1;

	EXPECT(write(fd, &one, 8) == 8, "write to an eventfd: %s", strerror(errno));
}

static UNUSED void empty(int fd)
{
	uint64_t count;

	EXPECT(read(fd, &count, 8) == 8, "read of an eventfd: %s", strerror(errno));
}

#endif
