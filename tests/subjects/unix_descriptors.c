/* Descriptors in flight: with bytes of a stream and not with those after, in messages, several at once, the only one that there
 * is, a socket that holds further ones, and a cycle. */
#include "unix.h"

static int file_with(const char *name, const char *text)
{
	int fd = open(path_of(name), O_CREAT | O_RDWR | O_TRUNC, 0666);

	NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

static void expect_file(const char *what, int fd, const char *text)
{
	char bytes[64];
	ssize_t got = pread(fd, bytes, sizeof bytes, 0);

	EXPECT(got == (ssize_t)strlen(text) && memcmp(bytes, text, got) == 0, "%s: another file: %zd %.*s", what, got,
	       got > 0 ? (int)got : 0, bytes);
}

int main(int argc, char **argv)
{
	int stream[2], datagram[2], packet[2], nested[2], cycle[2], full[2];
	int kept, gone, tube[2];
	char bytes[64];

	begin(argc, argv);
	kept = file_with("kept", "kept");
	gone = file_with("gone", "gone");
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0);
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packet) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, nested) == 0);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, cycle) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, full) == 0);
	NEED(pipe(tube) == 0);
	NEED(send_with(stream[0], "with", 4, (int[]){ kept, gone }, 2, NULL) == 4);
	NEED(send_with(stream[0], "second", 6, &tube[1], 1, NULL) == 6);
	NEED(send(stream[0], "after", 5, 0) == 5);
	NEED(send(datagram[0], "first", 5, 0) == 5 && send(datagram[0], "", 0, 0) == 0);
	NEED(send_with(datagram[0], "", 0, &gone, 1, NULL) == 0 && send_with(datagram[0], "plain", 5, NULL, 0, NULL) == 5);
	/* In flight in a socket that is itself in flight, and nowhere else. */
	int inner[2];
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, inner) == 0);
	NEED(send_with(inner[0], "deep", 4, &gone, 1, NULL) == 4);
	NEED(send_with(nested[0], "inner", 5, inner, 2, NULL) == 5);
	close(inner[0]), close(inner[1]), close(gone);
	/* A socket in its own queue. */
	NEED(send_with(cycle[0], "self", 4, &cycle[1], 1, NULL) == 4);
	int copies[16];
	for (int i = 0; i < 16; i++)
		copies[i] = i % 2 ? kept : tube[0];
	NEED(send_with(packet[0], "many", 4, copies, 16, NULL) == 4);
	/* One read in part: its descriptors went with the first part. */
	NEED(send_with(full[0], "partly", 6, &kept, 1, NULL) == 6);
	struct received part = receive(full[1], bytes, 3, 0);
	NEED(part.length == 3 && part.count == 1 && close(part.fds[0]) == 0);
	close(tube[1]);
	ready();
	await_check();

	struct received got = receive(stream[1], bytes, sizeof bytes, 0);
	EXPECT(got.length == 4 && memcmp(bytes, "with", 4) == 0, "bytes with them: %zd", got.length);
	EXPECT_EQ("descriptors", got.count, 2);
	expect_file("kept", got.fds[0], "kept");
	expect_file("gone", got.fds[1], "gone");
	EXPECT_EQ("offset of the same description", lseek(kept, 2, SEEK_SET), 2);
	EXPECT_EQ("offset of the one received", lseek(got.fds[0], 0, SEEK_CUR), 2);
	got = receive(stream[1], bytes, sizeof bytes, 0);
	EXPECT_EQ("bytes with the second", got.length, 6);
	EXPECT_EQ("the pipe's end", got.count, 1);
	EXPECT(write(got.fds[0], "x", 1) == 1 && read(tube[0], bytes, 1) == 1, "pipe in flight: %s", strerror(errno));
	close(got.fds[0]);
	expect_text("after them", stream[1], "after");

	expect_text("first datagram", datagram[1], "first");
	expect_text("datagram of nothing", datagram[1], "");
	got = receive(datagram[1], bytes, sizeof bytes, 0);
	EXPECT_EQ("datagram of no bytes", got.length, 0);
	EXPECT_EQ("its descriptors", got.count, 1);
	expect_file("gone, again", got.fds[0], "gone");
	expect_text("plain datagram", datagram[1], "plain");

	got = receive(nested[1], bytes, sizeof bytes, 0);
	EXPECT_EQ("nested sockets", got.count, 2);
	int one = got.fds[0], other = got.fds[1];
	got = receive(other, bytes, sizeof bytes, 0);
	EXPECT(got.length == 4 && memcmp(bytes, "deep", 4) == 0 && got.count == 1, "deep: %zd bytes, %d descriptors", got.length,
	       got.count);
	expect_file("deep", got.fds[0], "gone");
	expect_connected("nested sockets", one, other);

	got = receive(cycle[1], bytes, sizeof bytes, 0);
	EXPECT_EQ("the socket itself", got.count, 1);
	close(cycle[1]);
	expect_connected("the cycle", cycle[0], got.fds[0]);

	got = receive(packet[1], bytes, sizeof bytes, 0);
	EXPECT_EQ("many descriptors", got.count, 16);
	expect_file("the last of many", got.fds[15], "kept");
	EXPECT_EQ("read of the pipe that nobody writes", read(got.fds[0], bytes, 1), 0);
	got = receive(full[1], bytes, sizeof bytes, 0);
	EXPECT(got.length == 3 && got.count == 0, "the rest of a part: %zd bytes, %d descriptors", got.length, got.count);
	passed();
}
