/* What is half closed, or closed at the other end: with data left, with data lost (ECONNRESET), shut down by either end. */
#include "unix.h"
#include <poll.h>

static void make(int type, int *ends)
{
	NEED(socketpair(AF_UNIX, type, 0, ends) == 0);
}

static short events(int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	NEED(poll(&asked, 1, 0) >= 0);
	return asked.revents;
}

int main(int argc, char **argv)
{
	int types[2] = { SOCK_STREAM, SOCK_SEQPACKET };
	int left[2][2], lost[2][2], ended[2][2], deaf[2][2], both[2][2];
	short before[2][5];
	int datagram[2], datagram_deaf[2], empty[2];
	char bytes[64];

	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		make(types[i], left[i]), make(types[i], lost[i]), make(types[i], ended[i]);
		make(types[i], deaf[i]), make(types[i], both[i]);
		NEED(send(left[i][0], "last words", 10, 0) == 10 && close(left[i][0]) == 0);
		/* Of packets the error comes before what was heard, and could only be read with it. */
		NEED(i > 0 || send(lost[i][0], "heard", 5, 0) == 5);
		NEED(send(lost[i][1], "unheard", 7, 0) == 7 && close(lost[i][0]) == 0);
		NEED(send(ended[i][0], "the end", 7, 0) == 7 && shutdown(ended[i][0], SHUT_WR) == 0);
		NEED(shutdown(deaf[i][0], SHUT_RD) == 0);
		NEED(send(both[i][1], "before", 6, 0) == 6 && shutdown(both[i][1], SHUT_RDWR) == 0);
		int ends[5] = { left[i][1], lost[i][1], ended[i][1], deaf[i][1], both[i][0] };
		for (int j = 0; j < 5; j++)
			before[i][j] = events(ends[j]);
	}
	make(SOCK_DGRAM, datagram), make(SOCK_DGRAM, datagram_deaf);
	NEED(send(datagram[0], "one", 3, 0) == 3 && close(datagram[0]) == 0);
	NEED(shutdown(datagram_deaf[0], SHUT_WR) == 0);
	/* Packets of no bytes, which could be taken for the end, with a descriptor and without. */
	make(SOCK_SEQPACKET, empty);
	NEED(send(empty[0], "", 0, 0) == 0 && send_with(empty[0], "", 0, &datagram[1], 1, NULL) == 0);
	NEED(send(empty[0], "", 0, 0) == 0 && close(empty[0]) == 0);
	ready();
	await_check();

	for (int i = 0; i < 2; i++) {
		int ends[5] = { left[i][1], lost[i][1], ended[i][1], deaf[i][1], both[i][0] };

		for (int j = 0; j < 5; j++) {
			char what[64];

			snprintf(what, sizeof what, "events of %d of type %d", j, types[i]);
			EXPECT_EQ(what, events(ends[j]), before[i][j]);
		}
		expect_text("left", left[i][1], "last words");
		expect_end("left", left[i][1]);
		EXPECT(send(left[i][1], "x", 1, 0) == -1 && errno == EPIPE, "send to a closed end: %s", strerror(errno));
		EXPECT_EQ("error of the one whose data was lost", option(lost[i][1], SO_ERROR), ECONNRESET);
		if (i == 0)
			expect_text("lost", lost[i][1], "heard");
		expect_end("lost", lost[i][1]);
		expect_text("ended", ended[i][1], "the end");
		expect_end("ended", ended[i][1]);
		EXPECT_EQ("the other way", send(ended[i][1], "yes", 3, 0), 3);
		expect_text("the other way", ended[i][0], "yes");
		EXPECT(send(ended[i][0], "x", 1, 0) == -1 && errno == EPIPE, "send after the end: %s", strerror(errno));
		EXPECT(send(deaf[i][1], "x", 1, 0) == -1 && errno == EPIPE, "send to a deaf one: %s", strerror(errno));
		EXPECT_EQ("from a deaf one", send(deaf[i][0], "no", 2, 0), 2);
		expect_text("from a deaf one", deaf[i][1], "no");
		expect_text("both", both[i][0], "before");
		expect_end("both", both[i][0]);
		EXPECT(recv(both[i][1], bytes, 1, MSG_DONTWAIT) == 0, "both: %s", strerror(errno));
	}
	EXPECT_EQ("SO_PASSCRED", option(empty[1], SO_PASSCRED), 0);
	EXPECT_OK(setsockopt(empty[1], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)));
	for (int i = 0; i < 4; i++) {
		struct received got = receive(empty[1], bytes, sizeof bytes, 0);

		EXPECT_EQ("bytes of an empty packet", got.length, 0);
		EXPECT_EQ("descriptors of an empty packet", got.count, i == 1);
		EXPECT_EQ("an empty packet, or the end", got.has_credentials, i < 3);
	}
	expect_text("datagram of one that is closed", datagram[1], "one");
	expect_empty("datagram of one that is closed", datagram[1]);
	EXPECT(send(datagram[1], "x", 1, 0) == -1 && errno == ECONNREFUSED, "send to it: %s", strerror(errno));
	EXPECT(send(datagram_deaf[0], "x", 1, 0) == -1 && errno == EPIPE, "send after SHUT_WR: %s", strerror(errno));
	EXPECT_EQ("the other way", send(datagram_deaf[1], "x", 1, 0), 1);
	expect_text("the other way", datagram_deaf[0], "x");
	passed();
}
