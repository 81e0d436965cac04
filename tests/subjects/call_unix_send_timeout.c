/* Moved inside a send of a message for which there is no room, with SO_SNDTIMEO: no EINTR, and not before the time is over. */
#include "call.h"
#include <sys/socket.h>

static int ends[2];
static char bytes[10000];

static struct answer call(void)
{
	return ANSWER(send(ends[0], bytes, sizeof bytes, 0));
}

int main(int argc, char **argv)
{
	struct timeval wait = { 0, CALL_MS * 1000 };

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	while (send(ends[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
	NEED(errno == EAGAIN && setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0);
	repeat_until_check("send with a time-out", call, (struct answer){ -1, EAGAIN });
}
