/*
 * Items whose number is something else by now: closed, used again, while the description lives on through a duplicate; one description
 * under several numbers; one number several times; an epoll inside an epoll; how one polls.
 */
#include "epoll.h"
#include <sys/ioctl.h>

static int moved_to(int fd, int number)
{
	NEED(dup2(fd, number) == number && close(fd) == 0);
	return number;
}

int main(int argc, char **argv)
{
	struct { uint32_t usecs; uint16_t budget; uint8_t prefer, unused; } polls = { 50, 8, 1, 0 }, now = { 0 };

	begin(argc, argv);
	int epoll = moved_to(epoll_create1(EPOLL_CLOEXEC), 30), outer = moved_to(epoll_create1(0), 31), outermost = moved_to(epoll_create1(0), 32);
	/* 40 is closed, and lives on as 50. */
	int closed = moved_to(eventfd(0, 0), 40);
	add(epoll, closed, EPOLLIN, 1);
	NEED(dup2(closed, 50) == 50 && close(closed) == 0);
	/* 41 was one, and is another that is watched too; then a third, which is not, and is closed on exec. */
	int first = moved_to(eventfd(0, 0), 41);
	add(epoll, 41, EPOLLIN, 2);
	NEED(dup2(first, 51) == 51 && close(41) == 0);
	NEED(moved_to(eventfd(0, 0), 41) == 41);
	add(epoll, 41, EPOLLIN, 3);
	NEED(dup2(41, 52) == 52 && dup3(moved_to(eventfd(7, EFD_SEMAPHORE), 60), 41, O_CLOEXEC) == 41 && close(60) == 0);
	/* One under three numbers, of which it has one. */
	int several = moved_to(eventfd(0, 0), 42);
	add(epoll, 42, EPOLLIN, 4);
	NEED(dup2(several, 43) == 43 && dup2(several, 44) == 44);
	add(epoll, 43, EPOLLIN, 5);
	add(epoll, 44, EPOLLIN | EPOLLET, 6);
	NEED(close(42) == 0 && close(43) == 0);
	/* Epolls in epolls. */
	add(outer, epoll, EPOLLIN, 7);
	add(outermost, outer, EPOLLIN | EPOLLET, 8);
	add(outermost, epoll, EPOLLIN, 9);
	int polls_set = ioctl(outer, _IOW(0x8a, 1, polls), &polls) == 0;
	/* This one's number is watched, and closed. */
	int gone = moved_to(epoll_create1(0), 45);
	add(outer, gone, EPOLLIN, 10);
	NEED(dup2(gone, 53) == 53 && close(gone) == 0);
	ready();
	await_check();

	EXPECT_EQ("whether a closed number is closed", fcntl(40, F_GETFD) == -1, 1);
	EXPECT_EQ("whether a closed number is closed", fcntl(42, F_GETFD) == -1, 1);
	EXPECT_EQ("close-on-exec of what is there now", fcntl(41, F_GETFD), FD_CLOEXEC);
	uint64_t one = 0;
	EXPECT(read(41, &one, 8) == 8 && one == 1, "what is there now is not a semaphore");
	expect_told("nothing", epoll, 0, 0);
	expect_told("nothing", outermost, 0, 0);
	count_up(50);
	expect_told("the one that was closed", epoll, 1, EPOLLIN);
	EXPECT(told(outer, 7, NULL) == EPOLLIN, "the outer one does not tell");
	EXPECT(told(outermost, 9, NULL) == EPOLLIN, "the outermost one does not tell");
	empty(50);
	count_up(51);
	expect_told("the first of a number", epoll, 2, EPOLLIN);
	empty(51);
	count_up(52);
	expect_told("the second of a number", epoll, 3, EPOLLIN);
	empty(52);
	count_up(44);
	int all;
	EXPECT(told(epoll, 4, &all) == EPOLLIN && all == 3, "one under three numbers: %d are told", all);
	EXPECT(told(epoll, 5, &all) == EPOLLIN && all == 2, "one under three numbers, then: %d are told", all);
	empty(44);
	/* An item can be taken away only where its number is its description. */
	EXPECT(epoll_ctl(epoll, EPOLL_CTL_DEL, 50, NULL) == -1 && errno == ENOENT, "it is watched under 50");
	EXPECT_OK(dup2(50, 40));
	EXPECT_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, 40, NULL));
	add(53, 50, EPOLLIN, 1);
	count_up(50);
	EXPECT(told(outer, 10, NULL) == EPOLLIN, "the inner one is not watched");
	if (polls_set) {
		EXPECT_OK(ioctl(outer, _IOR(0x8a, 2, now), &now));
		EXPECT(memcmp(&polls, &now, sizeof now) == 0, "it polls otherwise");
	}
	passed();
}
