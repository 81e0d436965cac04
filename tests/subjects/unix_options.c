/* Options: buffers, time-outs, the low-water mark, SO_PASSCRED with the credentials of what is queued, the peek offset. */
#include "unix.h"

int main(int argc, char **argv)
{
	int stream[2], datagram[2], telling[2], peeking[2], small[2];
	char bytes[64];
	struct timeval wait = { 7, 500000 };

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0);
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, telling) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, peeking) == 0);
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, small) == 0);
	set_option(stream[0], SO_SNDBUF, 10000), set_option(stream[0], SO_RCVBUF, 20000);
	set_option(stream[0], SO_RCVLOWAT, 5), set_option(stream[1], SO_KEEPALIVE, 1);
	NEED(setsockopt(stream[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
	NEED(setsockopt(stream[1], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0);
	int sndbuf = option(stream[0], SO_SNDBUF), rcvbuf = option(stream[0], SO_RCVBUF), whole = option(datagram[0], SO_SNDBUF);
	/* The first before anybody asks who sends. */
	NEED(send(telling[0], "unknown", 7, 0) == 7);
	set_option(telling[1], SO_PASSCRED, 1);
	NEED(send(telling[0], "known", 5, 0) == 5);
	struct ucred other = { getpid(), 1234, 5678 };
	int root = geteuid() == 0;
	if (root)
		NEED(send_with(telling[0], "as another", 10, NULL, 0, &other) == 10);
	NEED(send(peeking[0], "0123456789", 10, 0) == 10);
	set_option(peeking[1], SO_PEEK_OFF, 0);
	NEED(recv(peeking[1], bytes, 4, MSG_PEEK) == 4);
	int offset = option(peeking[1], SO_PEEK_OFF);
	/* Made small when it was full. */
	memset(bytes, 'x', sizeof bytes);
	for (int i = 0; i < 20; i++)
		NEED(send(small[0], bytes, sizeof bytes, MSG_DONTWAIT) == sizeof bytes);
	set_option(small[0], SO_SNDBUF, 1);
	ready();
	await_check();

	struct timeval told;
	socklen_t length = sizeof told;
	EXPECT_EQ("send buffer", option(stream[0], SO_SNDBUF), sndbuf);
	EXPECT_EQ("receive buffer", option(stream[0], SO_RCVBUF), rcvbuf);
	EXPECT_EQ("send buffer that is as it was made", option(datagram[0], SO_SNDBUF), whole);
	EXPECT_EQ("locks of it", option(datagram[0], 72), 0);
	EXPECT_EQ("low-water mark", option(stream[0], SO_RCVLOWAT), 5);
	EXPECT_EQ("keep-alive", option(stream[1], SO_KEEPALIVE), 1);
	EXPECT_OK(getsockopt(stream[0], SOL_SOCKET, SO_RCVTIMEO, &told, &length));
	EXPECT(told.tv_sec == 7 && told.tv_usec == 500000, "receive time-out: %ld.%06ld", (long)told.tv_sec, (long)told.tv_usec);
	EXPECT_OK(getsockopt(stream[1], SOL_SOCKET, SO_SNDTIMEO, &told, &length));
	EXPECT(told.tv_sec == 7 && told.tv_usec == 500000, "send time-out: %ld.%06ld", (long)told.tv_sec, (long)told.tv_usec);

	struct received got = receive(telling[1], bytes, sizeof bytes, 0);
	EXPECT(got.has_credentials && got.credentials.pid == 0, "sender of the first: %d", got.credentials.pid);
	got = receive(telling[1], bytes, sizeof bytes, 0);
	EXPECT_EQ("sender of the second", got.credentials.pid, getpid());
	EXPECT_EQ("user of the second", got.credentials.uid, getuid());
	if (root) {
		got = receive(telling[1], bytes, sizeof bytes, 0);
		EXPECT_EQ("sender of the third", got.credentials.pid, getpid());
		EXPECT_EQ("user of the third", got.credentials.uid, 1234);
		EXPECT_EQ("group of the third", got.credentials.gid, 5678);
	}
	EXPECT_EQ("peek offset", option(peeking[1], SO_PEEK_OFF), offset);
	EXPECT_EQ("peeked at it", recv(peeking[1], bytes, 3, MSG_PEEK), 3);
	EXPECT(memcmp(bytes, "456", 3) == 0, "peeked at it: %.3s", bytes);
	EXPECT_EQ("peek offset afterwards", option(peeking[1], SO_PEEK_OFF), 7);
	EXPECT_EQ("peek offset of another", option(stream[1], SO_PEEK_OFF), -1);
	EXPECT(send(small[0], "x", 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "the small one is not full: %s", strerror(errno));
	for (int i = 0; i < 20; i++)
		EXPECT_EQ("what is in the small one", recv(small[1], bytes, sizeof bytes, MSG_DONTWAIT), (ssize_t)sizeof bytes);
	passed();
}
