/* A pipe whose other end a process has whose first thread has ended: /proc shows nothing of it by its PID. */
#include "first_ended.h"
#include <poll.h>

static int ends[2];

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe(ends) == 0);
	leave_one_without_first();
	close(ends[1]);
	ready();
	await_check();
	EXPECT_EQ("what poll says of the pipe", poll(&(struct pollfd){ ends[0], POLLIN }, 1, 0), 0);
	passed();
}
