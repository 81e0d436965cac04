/* Moved inside poll without a timeout, on several descriptors. */
#include "call.h"
#include <poll.h>
#include <sys/eventfd.h>

static struct pollfd fds[3];
static int writing;

static struct answer call(void)
{
	return ANSWER(poll(fds, 3, -1));
}

static void put(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("length written", write(writing, "x", 1), 1);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int ends[2];
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	writing = ends[1];
	fds[0] = (struct pollfd){ eventfd(0, 0), POLLIN, 0 };
	fds[1] = (struct pollfd){ ends[0], POLLIN, 0 };
	fds[2] = (struct pollfd){ -1, POLLIN, 0 };
	block_until_check("poll_forever", call, put, (struct answer){ 1, 0 });
	EXPECT_EQ("events of the pipe", fds[1].revents, POLLIN);
	EXPECT_EQ("events of the eventfd", fds[0].revents, 0);
	passed();
}
