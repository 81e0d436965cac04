/* Pairs of each sort: connected, empty, with bytes, messages and their bounds, messages of no bytes; flags and duplicates. */
#include "unix.h"

int main(int argc, char **argv)
{
	int stream[2], datagram[2], packet[2], idle[2];
	char bytes[64];

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) == 0);
	NEED(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, datagram) == 0);
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packet) == 0);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, idle) == 0);
	int another = dup(stream[0]);
	NEED(another >= 0);
	NEED(send(stream[0], "hello ", 6, 0) == 6 && send(another, "world", 5, 0) == 5);
	NEED(send(stream[1], "and back", 8, 0) == 8 && recv(stream[0], bytes, 4, 0) == 4);
	NEED(send(datagram[0], "one", 3, 0) == 3 && send(datagram[0], "", 0, 0) == 0 && send(datagram[0], "three", 5, 0) == 5);
	NEED(send(datagram[1], "other way", 9, 0) == 9);
	NEED(send(packet[1], "", 0, 0) == 0 && send(packet[1], "packet", 6, 0) == 6 && send(packet[1], "next", 4, 0) == 4);
	ready();
	await_check();

	EXPECT_EQ("close-on-exec", fcntl(stream[0], F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("flags", fcntl(stream[0], F_GETFL), O_RDWR);
	EXPECT_EQ("flags of the datagrams", fcntl(datagram[1], F_GETFL), O_RDWR | O_NONBLOCK);
	expect_text("stream", stream[1], "hello world");
	expect_text("stream, back", another, "back");
	expect_text("first datagram", datagram[1], "one");
	expect_text("datagram of no bytes", datagram[1], "");
	expect_text("third datagram", datagram[1], "three");
	expect_text("datagram back", datagram[0], "other way");
	expect_text("packet of no bytes", packet[0], "");
	EXPECT_EQ("part of a packet", recv(packet[0], bytes, 3, 0), 3);
	expect_text("next packet", packet[0], "next");
	for (int i = 0; i < 2; i++) {
		expect_empty("stream", stream[i]);
		expect_empty("datagram", datagram[i]);
		expect_empty("packet", packet[i]);
	}
	expect_connected("stream", stream[0], stream[1]);
	expect_connected("duplicate", another, stream[1]);
	expect_connected("datagram", datagram[0], datagram[1]);
	expect_connected("packet", packet[0], packet[1]);
	expect_connected("idle pair", idle[0], idle[1]);
	passed();
}
