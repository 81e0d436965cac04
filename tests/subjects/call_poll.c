/* Moved inside poll with a timeout, nothing to read. */
#include "call.h"
#include <poll.h>

static int ends[2];

static struct answer call(void)
{
	struct pollfd fd = { ends[0], POLLIN, 0 };

	return ANSWER(syscall(SYS_poll, &fd, 1, CALL_MS));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	repeat_until_check("poll", call, (struct answer){ 0, 0 });
}
