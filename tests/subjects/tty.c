/*
 * Open descriptions of /dev/tty: two of them, flags, a duplicate, watched by an epoll; the name that the program knows them by. The terminal
 * itself is open by its master alone.
 */
#include "pty.h"
#include <sys/epoll.h>
#include <sys/sysmacros.h>

static void expect_tty(const char *what, int fd)
{
	char link[64] = "", path[64];
	struct stat status;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	EXPECT(readlink(path, link, sizeof link - 1) > 0, "%s: %s", what, strerror(errno));
	EXPECT(strcmp(link, "/dev/tty") == 0, "%s is %s", what, link);
	EXPECT_OK(fstat(fd, &status));
	EXPECT(status.st_rdev == makedev(5, 0), "%s is device %d:%d", what, major(status.st_rdev), minor(status.st_rdev));
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 }, got = { 0 };

	begin(argc, argv);
	NEED(getsid(0) == getpid());
	int epoll = epoll_create1(EPOLL_CLOEXEC), master = master_of(0), slave = slave_of(master, O_RDWR);
	NEED(epoll >= 0 && ioctl(slave, TIOCSCTTY, 0) == 0);
	int tty = open("/dev/tty", O_RDWR), other = open("/dev/tty", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	NEED(tty >= 0 && other >= 0 && dup2(tty, 20) == 20 && fcntl(tty, F_SETFD, FD_CLOEXEC) == 0);
	/* A number is free below them. */
	NEED(close(slave) == 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, tty, &event) == 0);
	int flags[] = { fcntl(tty, F_GETFL), fcntl(other, F_GETFL) };
	ready();
	await_check();

	expect_tty("the first", tty);
	expect_tty("its duplicate", 20);
	expect_tty("the other", other);
	EXPECT_EQ("flags of the first", fcntl(tty, F_GETFL), flags[0]);
	EXPECT_EQ("flags of the other", fcntl(other, F_GETFL), flags[1]);
	EXPECT_EQ("close-on-exec of the first", fcntl(tty, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("close-on-exec of its duplicate", fcntl(20, F_GETFD), 0);
	EXPECT_EQ("close-on-exec of the other", fcntl(other, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("flags shared with the duplicate", fcntl(20, F_SETFL, O_NONBLOCK), 0);
	EXPECT_EQ("flags shared with the duplicate", fcntl(tty, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	EXPECT(fcntl(slave, F_GETFD) == -1 && errno == EBADF, "what was closed is open");
	EXPECT_EQ("events before there is any", epoll_wait(epoll, &got, 1, 0), 0);
	EXPECT_EQ("written at the master", write(master, "line\n", 5), 5);
	EXPECT_EQ("events", epoll_wait(epoll, &got, 1, 10000), 1);
	EXPECT_EQ("the event's data", got.data.u64, 77);
	char text[16];
	EXPECT_EQ("read by the duplicate", read(20, text, sizeof text), 5);
	EXPECT_EQ("what was echoed", read(master, text, sizeof text), 6);
	expect_through("by the other", other, "x", master, "x");
	EXPECT_EQ("the session", tcgetsid(tty), getpid());
	passed();
}
