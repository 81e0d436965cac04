/* Moved inside recvfrom with SO_RCVTIMEO on a UDP socket to which nobody sends. */
#include "call.h"
#include "inet.h"

static int fd;

static struct answer call(void)
{
	char byte;

	return ANSWER(recvfrom(fd, &byte, 1, 0, NULL, NULL));
}

int main(int argc, char **argv)
{
	struct timeval time = { 0, CALL_MS * 1000 };

	begin(argc, argv);
	fd = bound_to(SOCK_DGRAM, 0, v4("127.0.0.1", 20261));
	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
	repeat_until_check("recvfrom with a timeout", call, (struct answer){ -1, EAGAIN });
}
