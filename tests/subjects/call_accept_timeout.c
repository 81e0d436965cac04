/* Moved inside accept with SO_RCVTIMEO on a TCP listener to which nobody connects. */
#include "call.h"
#include "inet.h"

static int fd;

static struct answer call(void)
{
	return ANSWER(accept(fd, NULL, NULL));
}

int main(int argc, char **argv)
{
	struct timeval time = { 0, CALL_MS * 1000 };

	begin(argc, argv);
	fd = bound_to(SOCK_STREAM, 0, v4("127.0.0.1", 20271));
	NEED(listen(fd, 3) == 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
	repeat_until_check("accept with a timeout", call, (struct answer){ -1, EAGAIN });
}
