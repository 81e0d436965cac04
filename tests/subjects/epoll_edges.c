/*
 * Edges: one that was told and not taken is not told again, one that nobody has seen is, one that comes is; one-shot items that have been
 * told stay disarmed; exclusive ones.
 */
#include "epoll.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	/* Told: nothing is left to be told in this one. */
	int told_ = epoll_create1(0), seen = eventfd(0, 0), unready = eventfd(0, 0);
	add(told_, seen, EPOLLIN | EPOLLET, 1);
	add(told_, unready, EPOLLIN | EPOLLET, 2);
	count_up(seen);
	expect_told("before", told_, 1, EPOLLIN);
	/* Not told. */
	int untold = epoll_create1(0), unseen = eventfd(3, 0);
	add(untold, unseen, EPOLLIN | EPOLLOUT | EPOLLET, 3);
	/* Told once, disarmed; ready and not; and one that is armed. */
	int once = epoll_create1(0), spent = eventfd(1, 0), spent_unready = eventfd(1, 0), armed = eventfd(0, 0);
	add(once, spent, EPOLLIN | EPOLLONESHOT, 4);
	expect_told("before", once, 4, EPOLLIN);
	add(once, spent_unready, EPOLLIN | EPOLLONESHOT | EPOLLET, 5);
	expect_told("before", once, 5, EPOLLIN);
	empty(spent_unready);
	add(once, armed, EPOLLIN | EPOLLONESHOT, 6);
	/* A pipe's end that hangs up later must not tell of that when it is disarmed. */
	int ends[2];
	NEED(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
	add(once, ends[0], EPOLLIN | EPOLLONESHOT, 7);
	expect_told("before", once, 7, EPOLLIN);
	/* Level-triggered ones are told as often as is asked. */
	int level = epoll_create1(0), exclusive = eventfd(1, 0);
	add(level, exclusive, EPOLLIN | EPOLLEXCLUSIVE, 8);
	expect_told("before", level, 8, EPOLLIN);
	NEED(unready >= 0 && unseen >= 0 && armed >= 0 && exclusive >= 0);
	ready();
	await_check();

	expect_told("an edge that was told", told_, 1, 0);
	count_up(unready);
	expect_told("a new edge", told_, 2, EPOLLIN);
	count_up(seen);
	expect_told("another edge", told_, 1, EPOLLIN);
	expect_told("an edge that nobody has seen", untold, 3, EPOLLIN | EPOLLOUT);
	expect_told("it is told once", untold, 3, 0);
	count_up(spent);
	count_up(spent_unready);
	EXPECT_OK(close(ends[1]));
	expect_told("disarmed ones", once, 4, 0);
	count_up(armed);
	expect_told("an armed one", once, 6, EPOLLIN);
	expect_told("it is told once", once, 6, 0);
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 9 };
	EXPECT_OK(epoll_ctl(once, EPOLL_CTL_MOD, spent, &event));
	expect_told("armed again", once, 9, EPOLLIN);
	expect_told("a level", level, 8, EPOLLIN);
	expect_told("a level, again", level, 8, EPOLLIN);
	event.data.u64 = 10;
	EXPECT(epoll_ctl(level, EPOLL_CTL_MOD, exclusive, &event) == -1 && errno == EINVAL, "it is exclusive no more");
	passed();
}
