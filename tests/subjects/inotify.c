/*
 * What is watched: a directory, one that has been renamed since, a file, a file under a name of a directory of its own, a symbolic link
 * itself; with events, once only, not once unlinked; numbers with holes; flags; a duplicate.
 */
#include "inotify.h"
#include <sys/epoll.h>

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN }, got;

	begin(argc, argv);
	int fd = inotify_init1(IN_CLOEXEC), other = inotify_init1(IN_NONBLOCK), empty = inotify_init1(0);
	NEED(fd >= 0 && other >= 0 && empty >= 0);
	NEED(mkdir(path_of("directory"), 0777) == 0 && mkdir(path_of("old name"), 0777) == 0 && mkdir(path_of("without"), 0777) == 0);
	make_empty("file");
	make_empty("once");
	make_empty("hole");
	NEED(symlink("nowhere", path_of("link")) == 0);
	/* Opened and closed: the names of some are no longer held by anything. */
	int directory = watch(fd, "directory", IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM);
	for (int i = 0; i < 20; i++)
		NEED(inotify_rm_watch(fd, watch(fd, "hole", IN_OPEN)) == 0);
	int renamed = watch(fd, "old name", IN_CREATE | IN_ONLYDIR);
	int file = watch(fd, "file", IN_ALL_EVENTS);
	NEED(inotify_rm_watch(fd, watch(fd, "hole", IN_OPEN)) == 0);
	int once = watch(fd, "once", IN_MODIFY | IN_ONESHOT);
	int link = watch(fd, "link", IN_ATTRIB | IN_DELETE_SELF | IN_DONT_FOLLOW);
	int without = watch(fd, "without", IN_OPEN | IN_EXCL_UNLINK);
	/* Events added to those there are. */
	NEED(watch(fd, "once", IN_ATTRIB | IN_ONESHOT | IN_MASK_ADD) == once);
	int others = watch(other, "directory", IN_CREATE);
	int another = dup(fd), epoll = epoll_create1(0);
	NEED(another >= 0 && epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
	rename_to("old name", "new name");
	drain(fd);
	drain(other);
	NEED(directory == 1 && renamed == 22 && once == 25);
	ready();
	await_check();

	EXPECT_EQ("flags", fcntl(fd, F_GETFL), O_RDONLY);
	EXPECT_EQ("close-on-exec", fcntl(fd, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("flags", fcntl(other, F_GETFL), O_RDONLY | O_NONBLOCK);
	char byte;
	EXPECT(read(other, &byte, 1) == -1 && errno == EAGAIN, "events that nobody has made");
	EXPECT(epoll_wait(epoll, &got, 1, 0) == 0, "events that nobody has made");
	make_empty("directory/x");
	EXPECT(epoll_wait(epoll, &got, 1, 10000) == 1, "the epoll does not tell");
	make_empty("new name/y");
	int opened = open(path_of("file"), O_RDWR);
	EXPECT(write(opened, "x", 1) == 1 && close(opened) == 0, "write: %s", strerror(errno));
	opened = open(path_of("once"), O_RDWR);
	EXPECT(write(opened, "x", 1) == 1 && write(opened, "x", 1) == 1 && close(opened) == 0, "write: %s", strerror(errno));
	EXPECT_OK(unlink(path_of("link")));
	make_empty("without/z");
	opened = open(path_of("without/z"), O_RDWR);
	EXPECT_OK(unlink(path_of("without/z")));
	rename_to("directory/x", "directory/y");
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", opened);
	EXPECT_OK(open(path, O_RDWR));

	expect_event(another, "the directory", directory, IN_CREATE, "x");
	expect_event(another, "the renamed directory", renamed, IN_CREATE, "y");
	expect_event(another, "the file", file, IN_OPEN, "");
	expect_event(another, "the file", file, IN_MODIFY, "");
	expect_event(another, "the file", file, IN_CLOSE_WRITE, "");
	expect_event(another, "once", once, IN_MODIFY, "");
	expect_event(another, "once", once, IN_IGNORED, "");
	expect_event(another, "the link", link, IN_ATTRIB, "");
	expect_event(another, "the link", link, IN_DELETE_SELF, "");
	expect_event(another, "the link", link, IN_IGNORED, "");
	/* Twice the same at the end of a queue are one. */
	expect_event(another, "not unlinked", without, IN_OPEN, "z");
	expect_event(another, "the directory", directory, IN_MOVED_FROM, "x");
	expect_event(another, "the directory", directory, IN_MOVED_TO, "y");
	EXPECT(epoll_wait(epoll, &got, 1, 0) == 0, "an event of a file that has been unlinked");
	EXPECT(inotify_rm_watch(fd, 2) == -1 && errno == EINVAL, "there is a watch 2");
	EXPECT_EQ("the number of a new watch of what is watched", inotify_add_watch(fd, path_of("file"), IN_OPEN), file);
	EXPECT(watch(fd, "hole", IN_OPEN) > without, "a new watch got an old number");
	EXPECT_OK(inotify_rm_watch(other, others));
	EXPECT_EQ("the first number of an empty one", inotify_add_watch(empty, path_of("file"), IN_OPEN), 1);
	passed();
}
