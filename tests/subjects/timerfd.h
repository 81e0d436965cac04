/* Timers by descriptor. */
#ifndef TIMERFD_H
#define TIMERFD_H
#include "subject.h"
#include <sys/timerfd.h>

#define SECONDS 1000000000LL
#define MS 1000000LL

static UNUSED struct timespec to_time(int64_t ns)
{
	return (struct timespec){ ns / SECONDS, ns % SECONDS };
}

static UNUSED int64_t to_ns(struct timespec time)
{
	return time.tv_sec * SECONDS + time.tv_nsec;
}

static UNUSED int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	NEED(clock_gettime(clock, &now) == 0);
	return to_ns(now);
}

static UNUSED void set_timer(int fd, int flags, int64_t value, int64_t interval)
{
	struct itimerspec set = { to_time(interval), to_time(value) };

	NEED(timerfd_settime(fd, flags, &set, NULL) == 0);
}

static UNUSED struct itimerspec get_timer(int fd)
{
	struct itimerspec is;

	EXPECT_OK(timerfd_gettime(fd, &is));
	return is;
}

static UNUSED uint64_t take_ticks(int fd)
{
	uint64_t ticks = 0;

	EXPECT(read(fd, &ticks, 8) == 8, "read of timer %d: %s", fd, strerror(errno));
	return ticks;
}

static UNUSED int holds_ticks(int fd)
{
	char path[64], text[1024] = "";

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	read_whole(path, text, sizeof text - 1);
	const char *ticks = strstr(text, "ticks: ");
	return ticks ? atoi(ticks + 7) : -1;
}

#endif
