/* Moved inside a send of more than there is room for: no byte is lost or comes twice. */
#include "call.h"
#include <sys/socket.h>

#define LENGTH (1UL << 20)
static int ends[2];
static char data[LENGTH];

static struct answer call(void)
{
	size_t done = 0;

	/* An interrupted send may say that it sent a part (send(2)); what counts is that no byte is lost or comes twice. */
	while (done < LENGTH) {
		ssize_t part = send(ends[1], data + done, LENGTH - done, 0);

		EXPECT(part > 0, "send: %s", strerror(errno));
		done += part;
	}
	return (struct answer){ (long)done, 0 };
}

static void drain(pid_t tid)
{
	static char got[LENGTH];
	size_t length = 0;

	(void)tid;
	while (length < LENGTH) {
		ssize_t part = recv(ends[0], got + length, LENGTH - length, 0);

		EXPECT(part > 0, "recv: %s", strerror(errno));
		length += part;
	}
	expect_filled("what went through the socket", got, LENGTH, 1);
	EXPECT(recv(ends[0], got, LENGTH, MSG_DONTWAIT) == -1 && errno == EAGAIN, "there is more in it than was sent");
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	fill(data, LENGTH, 1);
	block_until_check("send", call, drain, (struct answer){ LENGTH, 0 });
	passed();
}
