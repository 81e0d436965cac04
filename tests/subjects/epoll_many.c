/* One epoll with more items than go into one step; each tells of its own. */
#include "epoll.h"
#include <sys/resource.h>

#define COUNT 2500

int main(int argc, char **argv)
{
	struct rlimit limit = { COUNT + 100, COUNT + 100 };
	int fds[COUNT];

	begin(argc, argv);
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		skipped("it may not have so many descriptors");
	int epoll = epoll_create1(0);
	NEED(epoll >= 0);
	for (int i = 0; i < COUNT; i++) {
		fds[i] = eventfd(0, 0);
		NEED(fds[i] >= 0);
		/* Every third one has told already. */
		add(epoll, fds[i], i % 3 == 0 ? EPOLLIN | EPOLLET : EPOLLIN, 1000000000000ULL + i);
		if (i % 3 == 0)
			count_up(fds[i]);
	}
	int all;
	told(epoll, 0, &all);
	NEED(all == COUNT / 3 + 1);
	ready();
	await_check();

	expect_told("nothing", epoll, 0, 0);
	for (int i = 0; i < COUNT; i++) {
		count_up(fds[i]);
		expect_told("one of many", epoll, 1000000000000ULL + i, EPOLLIN);
		empty(fds[i]);
	}
	passed();
}
