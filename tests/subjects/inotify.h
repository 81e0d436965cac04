/* Reading events of inotify. */
#ifndef INOTIFY_H
#define INOTIFY_H
#include "subject.h"
#include <sys/inotify.h>

/* The next event; waits for it. */
static UNUSED struct inotify_event *take_event(int fd)
{
	static union { struct inotify_event event; char room[sizeof(struct inotify_event) + NAME_MAX + 1]; } next;
	static char queue[65536];
	static ssize_t length, at;

	if (at == length) {
		length = at = 0;
		while ((length = read(fd, queue, sizeof queue)) < 0 && errno == EAGAIN)
			pause_ms(1);
		EXPECT(length > 0, "read of an inotify: %s", strerror(errno));
	}
	memcpy(&next, queue + at, sizeof next.event);
	memcpy(next.room, queue + at, sizeof next.event + next.event.len);
	at += sizeof next.event + next.event.len;
	return &next.event;
}

static UNUSED void expect_event(int fd, const char *what, int watch, uint32_t mask, const char *name)
{
	struct inotify_event *event = take_event(fd);

	EXPECT(event->wd == watch && event->mask == mask && strcmp(event->len ? event->name : "", name) == 0,
	       "%s: expected watch %d, events %x, name %s; got watch %d, events %x, name %s", what, watch, mask, name, event->wd,
	       event->mask, event->len ? event->name : "");
}

static UNUSED int watch(int fd, const char *name, uint32_t mask)
{
	int watch = inotify_add_watch(fd, path_of(name), mask);

	NEED(watch > 0);
	return watch;
}

static UNUSED void make_empty(const char *name)
{
	int fd = open(path_of(name), O_CREAT | O_RDWR | O_CLOEXEC, 0666);

	NEED(fd >= 0);
	close(fd);
}

static UNUSED void rename_to(const char *from, const char *to)
{
	char old[PATH_MAX];

	strcpy(old, path_of(from));
	NEED(rename(old, path_of(to)) == 0);
}

static UNUSED void drain(int fd)
{
	char text[4096];
	int flags = fcntl(fd, F_GETFL);

	NEED(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
	while (read(fd, text, sizeof text) > 0)
		;
	NEED(errno == EAGAIN && fcntl(fd, F_SETFL, flags) == 0);
}

#endif
