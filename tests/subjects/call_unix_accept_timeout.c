/* Moved inside accept with SO_RCVTIMEO: no EINTR, and not before the time is over. */
#include "call.h"
#include "unix.h"

static int listener;

static struct answer call(void)
{
	return ANSWER(accept(listener, NULL, NULL));
}

int main(int argc, char **argv)
{
	struct timeval wait = { 0, CALL_MS * 1000 };

	begin(argc, argv);
	listener = bound_to_path(SOCK_STREAM, "socket");
	NEED(listen(listener, 5) == 0);
	NEED(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
	repeat_until_check("accept with a time-out", call, (struct answer){ -1, EAGAIN });
}
