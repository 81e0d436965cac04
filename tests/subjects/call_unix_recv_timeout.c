/* Moved inside recv of a unix socket with SO_RCVTIMEO: no EINTR, and not before the time is over. */
#include "call.h"
#include <sys/socket.h>

static int ends[2];

static struct answer call(void)
{
	char byte;

	return ANSWER(recv(ends[0], &byte, 1, 0));
}

int main(int argc, char **argv)
{
	struct timeval wait = { 0, CALL_MS * 1000 };

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	NEED(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
	repeat_until_check("recv with a time-out", call, (struct answer){ -1, EAGAIN });
}
