/* A process with one thread, moved inside poll with a time-out. */
#include "wait.h"
#include <poll.h>

static int ends[2];

static struct answer call(const struct timespec *time)
{
	struct pollfd polled = { .fd = ends[0], .events = POLLIN };

	return ANSWER(poll(&polled, 1, time->tv_sec * 1000 + time->tv_nsec / 1000000));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	wait_alone("poll", call, (struct answer){ 0, 0 });
}
