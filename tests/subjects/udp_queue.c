/* Datagrams that wait: of several senders, empty, large, in connected sockets, in a reuseport group, of IPv6 and IPv4 in one. */
#include "inet.h"

static char large[60000];

static void put(int from, address to, const void *data, size_t length)
{
	NEED(sendto(from, data, length, 0, &to.any, size_of(&to)) == (ssize_t)length);
}

static int in_group(address at)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	NEED(fd >= 0);
	set_number(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	NEED(bind(fd, &at.any, size_of(&at)) == 0);
	return fd;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	address one = v4("127.0.0.1", 20111), two = v4("127.0.0.2", 20112), at = v4("127.0.0.1", 20113), any = v4("0.0.0.0", 20114);
	address group = v4("127.0.0.1", 20115), at_any = v4("127.0.0.1", 20114), on_lo = v4("127.0.0.1", 20116);
	int first = bound_to(SOCK_DGRAM, 0, one), second = bound_to(SOCK_DGRAM, 0, two), queue = bound_to(SOCK_DGRAM, 0, at);
	int connected = bound_to(SOCK_DGRAM, 0, any);

	fill(large, sizeof large, 5);
	put(first, at, "one", 3);
	put(second, at, "", 0);
	put(second, at, large, sizeof large);
	put(first, at, "last", 4);
	set_number(queue, SOL_SOCKET, SO_RCVBUF, 4096);
	/* One that came before it was connected to another. */
	put(second, at_any, "before", 6);
	NEED(connect(connected, &one.any, size_of(&one)) == 0);
	put(first, at_any, "after", 5);
	int members[3] = { in_group(group), in_group(group), in_group(group) };
	for (int i = 0; i < 40; i++) {
		int sender = bound_to(SOCK_DGRAM, 0, v4("127.0.0.1", 21000 + i));

		put(sender, group, &i, sizeof i);
		close(sender);
	}
	int counts[3] = { 0 }, where[40];
	for (int m = 0; m < 3; m++) {
		int value;

		set_number(members[m], SOL_SOCKET, SO_PEEK_OFF, 0);
		while (recv(members[m], &value, sizeof value, MSG_PEEK | MSG_DONTWAIT) == sizeof value) {
			where[value] = m;
			counts[m]++;
		}
		set_number(members[m], SOL_SOCKET, SO_PEEK_OFF, -1);
	}
	NEED(counts[0] + counts[1] + counts[2] == 40);
	/* Bound to a device, and peeked into. */
	int device = socket(AF_INET, SOCK_DGRAM, 0);
	NEED(setsockopt(device, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0 || errno == EPERM);
	NEED(bind(device, &on_lo.any, size_of(&on_lo)) == 0);
	put(first, on_lo, "123456", 6);
	char in[8];
	set_number(device, SOL_SOCKET, SO_PEEK_OFF, 0);
	NEED(recv(device, in, 2, MSG_PEEK) == 2 && number(device, SOL_SOCKET, SO_PEEK_OFF) == 2);
	int with_v6 = has_v6(), six = -1, dual = -1;
	address six_at = v6("::1", 20117), dual_at = v6("::", 20118), dual_four = v4("127.0.0.1", 20118), dual_six = v6("::1", 20118);
	if (with_v6) {
		six = bound_to(SOCK_DGRAM, 0, six_at);
		dual = bound_to(SOCK_DGRAM, 0, dual_at);
		put(six, six_at, "six to six", 10);
		put(six, dual_six, "six", 3);
		put(first, dual_four, "four", 4);
	}
	ready();
	await_check();

	EXPECT_EQ("SO_RCVBUF", number(queue, SOL_SOCKET, SO_RCVBUF), 8192);
	expect_datagram("the first datagram", queue, "one", 3, one);
	expect_datagram("the empty datagram", queue, "", 0, two);
	expect_datagram("the large datagram", queue, large, sizeof large, two);
	expect_datagram("the last datagram", queue, "last", 4, one);
	expect_nothing("the queue", queue);
	expect_peer("the connected one", connected, one);
	expect_datagram("what came before the connect", connected, "before", 6, two);
	expect_datagram("what came after it", connected, "after", 5, one);
	for (int i = 0; i < 40; i++) {
		int value, m = where[i];

		EXPECT_EQ("length in the group", recv(members[m], &value, sizeof value, MSG_DONTWAIT | MSG_PEEK), sizeof value);
		expect_datagram("of the group", members[m], &value, sizeof value, v4("127.0.0.1", 21000 + value));
		EXPECT(where[value] == m, "datagram %d is in another socket of the group", value);
	}
	for (int m = 0; m < 3; m++) {
		expect_nothing("a member of the group", members[m]);
		EXPECT(getpeername(members[m], &at.any, &(socklen_t){ sizeof at }) == -1 && errno == ENOTCONN,
		       "a member of the group is connected");
	}
	EXPECT_EQ("SO_PEEK_OFF", number(device, SOL_SOCKET, SO_PEEK_OFF), 2);
	EXPECT_EQ("the rest that is peeked", recv(device, in, sizeof in, MSG_PEEK), 4);
	EXPECT(memcmp(in, "3456", 4) == 0, "the rest that is peeked: %.4s", in);
	if (with_v6) {
		expect_datagram("of IPv6", six, "six to six", 10, six_at);
		expect_datagram("of IPv6 in both", dual, "six", 3, six_at);
		expect_datagram("of IPv4 in both", dual, "four", 4, v6("::ffff:127.0.0.1", 20111));
	}
	/* They receive. */
	EXPECT_EQ("sent", sendto(first, "new", 3, 0, &at.any, size_of(&at)), 3);
	expect_datagram("a new one", queue, "new", 3, one);
	passed();
}
