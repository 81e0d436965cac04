/* Full queues: as full afterwards, whether many small writes filled them or few large ones; nothing is lost or comes twice. */
#include "unix.h"

static char bytes[1 << 16];

static void fill_up(int fd, size_t piece, long *sent, uint64_t seed)
{
	for (*sent = 0;;) {
		for (size_t i = 0; i < piece; i++)
			bytes[i] = (char)pattern(seed, *sent + i);
		ssize_t part = send(fd, bytes, piece, MSG_DONTWAIT);
		if (part < 0)
			break;
		*sent += part;
	}
	NEED(errno == EAGAIN && *sent > 0);
}

static void empty(const char *what, int fd, long sent, uint64_t seed)
{
	for (long at = 0; at < sent;) {
		ssize_t part = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

		EXPECT(part > 0, "%s: after %ld of %ld bytes: %s", what, at, sent, strerror(errno));
		for (ssize_t i = 0; i < part; i++, at++)
			EXPECT(bytes[i] == (char)pattern(seed, at), "%s: byte %ld is another", what, at);
	}
	expect_empty(what, fd);
}

int main(int argc, char **argv)
{
	int large[2], small[2], packets[2], datagrams[2];
	long sent[4];

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, large) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, small) == 0);
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
	fill_up(large[0], sizeof bytes, &sent[0], 1);
	fill_up(small[0], 1, &sent[1], 2);
	fill_up(packets[0], 1000, &sent[2], 3);
	fill_up(datagrams[0], 30000, &sent[3], 4);
	ready();
	await_check();

	int senders[4] = { large[0], small[0], packets[0], datagrams[0] };
	for (int i = 0; i < 4; i++)
		EXPECT(send(senders[i], "x", 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "number %d is not full any more", i);
	empty("large pieces", large[1], sent[0], 1);
	empty("small pieces", small[1], sent[1], 2);
	empty("packets", packets[1], sent[2], 3);
	empty("datagrams", datagrams[1], sent[3], 4);
	for (int i = 0; i < 4; i++)
		EXPECT(send(senders[i], "x", 1, MSG_DONTWAIT) == 1, "send by number %d: %s", i, strerror(errno));
	passed();
}
