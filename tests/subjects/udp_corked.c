/*
 * Data that UDP and UDP-Lite sockets hold back (UDP_CORK, MSG_MORE): of IPv4 and IPv6, little and much, in one piece and in many, to the peer
 * and to others, with what was said for the datagram alone. It stays where it is until the rest is sent, and all goes as one.
 */
#include "inet.h"

#define UDP_CORK 1
#define UDP_SEGMENT 103
#define SO_RCVMARK 75
#define IPV6_FLOWINFO 11

enum { CONNECTED = 1, CORK = 2, UNBOUND = 4, LITE = 8, SHUT = 16, ANYWHERE = 32 };

struct held {
	const char *what;
	const char *from, *to;
	int how;
	size_t size, at_once;
	int sender, receiver;
	address at;
};

static struct held all[] = {
	{ "little", "127.0.0.1", "127.0.0.1", 0, 4, 4 },
	{ "little to the peer", "127.0.0.1", "127.0.0.1", CONNECTED, 4, 4 },
	{ "little behind a cork", "127.0.0.1", "127.0.0.1", CORK, 4, 4 },
	{ "little to the peer behind a cork", "127.0.0.1", "127.0.0.1", CONNECTED | CORK, 5, 2 },
	{ "of an unbound socket", NULL, "127.0.0.1", UNBOUND, 100, 100 },
	{ "of a socket at any address", "0.0.0.0", "127.0.0.5", CORK, 100, 10 },
	{ "much in one piece", "127.0.0.1", "127.0.0.1", 0, 60000, 60000 },
	{ "much in many pieces", "127.0.0.1", "127.0.0.1", CORK, 60000, 137 },
	{ "as much as there can be", "127.0.0.1", "127.0.0.1", CONNECTED, 65504, 20000 },
	{ "nothing at all", "127.0.0.1", "127.0.0.1", 0, 0, 1 },
	{ "of a socket that is shut down", "127.0.0.1", "127.0.0.1", CONNECTED | CORK | SHUT, 30, 30 },
	{ "of UDP-Lite", "127.0.0.1", "127.0.0.1", LITE, 1000, 300 },
	{ "of UDP-Lite behind a cork", "127.0.0.1", "127.0.0.1", LITE | CORK | CONNECTED, 50000, 9000 },
	{ "of IPv6", "::1", "::1", 0, 4, 4 },
	{ "much of IPv6", "::1", "::1", CORK, 60000, 7000 },
	{ "of IPv6 to the peer", "::1", "::1", CONNECTED | CORK, 3000, 1 },
	{ "of an unbound socket of IPv6", NULL, "::1", UNBOUND, 100, 100 },
	{ "of UDP-Lite and IPv6", "::1", "::1", LITE | CORK, 2000, 1000 },
	{ "of IPv6 to IPv4", "::", "::ffff:127.0.0.1", CORK, 50000, 999 },
	{ "of IPv6 to a peer of IPv4", "::ffff:127.0.0.1", "::ffff:127.0.0.1", CONNECTED, 20, 7 },
};

#define COUNT (sizeof all / sizeof all[0])

static char data[70000], got[70000];

static address at(const char *ip, int port)
{
	return strchr(ip, ':') ? v6(ip, port) : v4(ip, port);
}

/* A receiver of IPv4 for what is sent to an address of it. */
static int receiver_at(address to, int protocol)
{
	if (to.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&to.v6.sin6_addr))
		return bound_to(SOCK_DGRAM, protocol, v4("127.0.0.1", ntohs(to.v6.sin6_port)));
	return bound_to(SOCK_DGRAM, protocol, to);
}

static int begin_with(struct held *held, int port)
{
	int protocol = held->how & LITE ? IPPROTO_UDPLITE : 0;

	held->at = at(held->to, port);
	held->receiver = receiver_at(held->at, protocol);
	held->sender = socket(held->at.any.sa_family, SOCK_DGRAM, protocol);
	NEED(held->sender >= 0);
	address from = at(held->from ? held->from : "127.0.0.1", port + 1);
	if (!(held->how & UNBOUND))
		NEED(bind(held->sender, &from.any, size_of(&from)) == 0);
	if (held->how & CONNECTED)
		NEED(connect(held->sender, &held->at.any, size_of(&held->at)) == 0);
	if (held->how & CORK)
		set_number(held->sender, IPPROTO_UDP, UDP_CORK, 1);
	for (size_t done = 0; done < held->size || held->size == 0; done += held->at_once) {
		size_t count = held->size - done < held->at_once ? held->size - done : held->at_once;
		/* Only the first says where to. */
		int named = !(held->how & CONNECTED) && done == 0;
		ssize_t sent = sendto(held->sender, data + done, count, held->how & CORK ? 0 : MSG_MORE,
				      named ? &held->at.any : NULL, named ? size_of(&held->at) : 0);

		NEED(sent == (ssize_t)count);
		if (held->size == 0)
			break;
	}
	if (held->how & SHUT)
		NEED(shutdown(held->sender, SHUT_RDWR) == 0);
	return port + 2;
}

static void end_of(struct held *held)
{
	size_t size = held->size;
	int alive = !(held->how & SHUT);

	expect_nothing(held->what, held->receiver);
	EXPECT_EQ(held->what, number(held->sender, IPPROTO_UDP, UDP_CORK), (held->how & CORK) != 0);
	if (alive) {
		ssize_t sent = held->how & CONNECTED ? send(held->sender, "end", 3, 0) :
						       sendto(held->sender, "end", 3, 0, &held->at.any, size_of(&held->at));

		EXPECT(sent == 3, "%s: %s", held->what, strerror(errno));
		memcpy(got, data, size);
		memcpy(got + size, "end", 3);
		size += 3;
	} else {
		memcpy(got, data, size);
	}
	if (held->how & CORK) {
		int off = 0;

		expect_nothing(held->what, held->receiver);
		EXPECT(setsockopt(held->sender, IPPROTO_UDP, UDP_CORK, &off, sizeof off) == 0, "%s: uncork: %s", held->what, strerror(errno));
	}
	address from = name_of(held->sender);
	/* At no address of its own it was sent from the one that the way there begins with. */
	if (from.any.sa_family == AF_INET6 && held->at.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&held->at.v6.sin6_addr))
		from = v4("127.0.0.1", ntohs(from.v6.sin6_port));
	else if (from.any.sa_family == AF_INET && from.v4.sin_addr.s_addr == 0)
		inet_pton(AF_INET, "127.0.0.1", &from.v4.sin_addr);
	else if (from.any.sa_family == AF_INET6)
		from.v6.sin6_addr = held->at.v6.sin6_addr;
	static char expected[70000];
	memcpy(expected, got, size);
	expect_datagram(held->what, held->receiver, expected, size, from);
	expect_nothing(held->what, held->receiver);
	/* It can hold back anew, or not. */
	if (alive) {
		EXPECT(sendto(held->sender, "x", 1, 0, held->how & CONNECTED ? NULL : &held->at.any, held->how & CONNECTED ? 0 : size_of(&held->at)) == 1,
		       "%s: then: %s", held->what, strerror(errno));
		expect_datagram(held->what, held->receiver, "x", 1, from);
	}
}

/* Sends "said" with something said beside it, to be held back. */
static void hold_back(int fd, address to, const struct iovec *beside, int count)
{
	union {
		char bytes[256];
		struct cmsghdr aligned;
	} control;
	struct iovec part = { "said", 4 };
	struct msghdr message = { &to.any, size_of(&to), &part, 1, &control, sizeof control, 0 };
	struct cmsghdr *next = CMSG_FIRSTHDR(&message);

	memset(&control, 0, sizeof control);
	size_t length = 0;
	for (int i = 0; i < count; i++, next = CMSG_NXTHDR(&message, next)) {
		const int *say = beside[i].iov_base;

		next->cmsg_level = say[0];
		next->cmsg_type = say[1];
		next->cmsg_len = CMSG_LEN(beside[i].iov_len);
		memcpy(CMSG_DATA(next), say + 2, beside[i].iov_len);
		length += CMSG_SPACE(beside[i].iov_len);
	}
	message.msg_controllen = length;
	NEED(sendmsg(fd, &message, MSG_MORE) == 4);
}

/* The next datagram, "said", and one number that came with it. */
static int came_with(int fd, int level, int type)
{
	union {
		char bytes[256];
		struct cmsghdr aligned;
	} control;
	char in[16];
	struct iovec part = { in, sizeof in };
	struct msghdr message = { NULL, 0, &part, 1, &control, sizeof control, 0 };
	int value = -1;

	await_input(fd);
	EXPECT_EQ("length of what was said", recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK), 4);
	EXPECT(memcmp(in, "said", 4) == 0, "what was said is %.4s", in);
	for (struct cmsghdr *next = CMSG_FIRSTHDR(&message); next; next = CMSG_NXTHDR(&message, next))
		if (next->cmsg_level == level && next->cmsg_type == type) {
			value = 0;
			memcpy(&value, CMSG_DATA(next), next->cmsg_len - CMSG_LEN(0) < 4 ? next->cmsg_len - CMSG_LEN(0) : 4);
		}
	return value;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int port = 20301, with_v6 = has_v6(), lite = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), with_lite = lite >= 0;

	if (with_lite)
		close(lite);
	fill(data, sizeof data, 77);
	for (size_t i = 0; i < COUNT; i++) {
		all[i].sender = -1;
		if ((strchr(all[i].to, ':') && !with_v6) || (all[i].how & LITE && !with_lite))
			continue;
		port = begin_with(&all[i], port);
	}
	/* Held back for another than its peer. */
	address other = v4("127.0.0.1", 20391), peer = v4("127.0.0.1", 20392), self = v4("127.0.0.1", 20393);
	int at_other = bound_to(SOCK_DGRAM, 0, other), at_peer = bound_to(SOCK_DGRAM, 0, peer), faithless = bound_to(SOCK_DGRAM, 0, self);
	NEED(connect(faithless, &peer.any, size_of(&peer)) == 0);
	NEED(sendto(faithless, "to other", 8, MSG_MORE, &other.any, size_of(&other)) == 8);
	/* What is said for the datagram alone, and then of the socket. */
	address four = v4("127.0.0.1", 20395), six = v6("::1", 20396);
	int in_four = bound_to(SOCK_DGRAM, 0, four), of_four = socket(AF_INET, SOCK_DGRAM, 0), in_six = -1, of_six = -1;
	set_number(in_four, IPPROTO_IP, IP_RECVTTL, 1);
	set_number(in_four, IPPROTO_IP, IP_RECVTOS, 1);
	int one = 1, marks = setsockopt(in_four, SOL_SOCKET, SO_RCVMARK, &one, sizeof one) == 0;
	int say_ttl[] = { IPPROTO_IP, IP_TTL, 33 }, say_tos[] = { IPPROTO_IP, IP_TOS, 0x20 };
	struct iovec beside_four[] = { { say_ttl, 4 }, { say_tos, 4 } };
	marks = marks && setsockopt(of_four, SOL_SOCKET, SO_MARK, &(int){ 77 }, sizeof(int)) == 0;
	hold_back(of_four, four, beside_four, 2);
	if (marks)
		set_number(of_four, SOL_SOCKET, SO_MARK, 78);
	/* Several datagrams of one. */
	address pieces = v4("127.0.0.1", 20397);
	int in_pieces = bound_to(SOCK_DGRAM, 0, pieces), of_pieces = socket(AF_INET, SOCK_DGRAM, 0);
	set_number(of_pieces, IPPROTO_UDP, UDP_CORK, 1);
	set_number(of_pieces, IPPROTO_UDP, UDP_SEGMENT, 1000);
	NEED(sendto(of_pieces, data, 2000, 0, &pieces.any, size_of(&pieces)) == 2000);
	set_number(of_pieces, IPPROTO_UDP, UDP_SEGMENT, 0);
	/* And one of which no pieces are to be made, in a socket that would now. */
	address whole = v4("127.0.0.1", 20398);
	int in_whole = bound_to(SOCK_DGRAM, 0, whole), of_whole = socket(AF_INET, SOCK_DGRAM, 0);
	NEED(sendto(of_whole, data, 2000, MSG_MORE, &whole.any, size_of(&whole)) == 2000);
	set_number(of_whole, IPPROTO_UDP, UDP_SEGMENT, 1000);
	if (with_v6) {
		in_six = bound_to(SOCK_DGRAM, 0, six);
		of_six = socket(AF_INET6, SOCK_DGRAM, 0);
		set_number(in_six, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		set_number(in_six, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
		set_number(in_six, IPPROTO_IPV6, IPV6_FLOWINFO, 1);
		int say_hops[] = { IPPROTO_IPV6, IPV6_HOPLIMIT, 44 }, say_class[] = { IPPROTO_IPV6, IPV6_TCLASS, 0x40 };
		int say_label[] = { IPPROTO_IPV6, IPV6_FLOWINFO, htonl(0x12345) };
		struct iovec beside_six[] = { { say_hops, 4 }, { say_class, 4 }, { say_label, 4 } };
		hold_back(of_six, six, beside_six, 3);
	}
	ready();
	await_check();

	for (size_t i = 0; i < COUNT; i++)
		if (all[i].sender >= 0)
			end_of(&all[i]);
	expect_peer("the one that has a peer", faithless, peer);
	EXPECT_EQ("the rest for the other", send(faithless, "!", 1, 0), 1);
	expect_datagram("for another than the peer", at_other, "to other!", 9, self);
	expect_nothing("the peer", at_peer);
	EXPECT_EQ("nothing more", sendto(of_four, "", 0, 0, &four.any, size_of(&four)), 0);
	EXPECT_EQ("time to live", came_with(in_four, IPPROTO_IP, IP_TTL), 33);
	EXPECT_EQ("type of service", came_with(in_four, IPPROTO_IP, IP_TOS), 0x20);
	if (marks) {
		EXPECT_EQ("mark", came_with(in_four, SOL_SOCKET, SO_MARK), 77);
		EXPECT_EQ("mark of the socket", number(of_four, SOL_SOCKET, SO_MARK), 78);
	}
	EXPECT_EQ("rest of the pieces", send(of_pieces, data + 2000, 500, 0), 500);
	set_number(of_pieces, IPPROTO_UDP, UDP_CORK, 0);
	for (int i = 0; i < 3; i++) {
		await_input(in_pieces);
		EXPECT_EQ("a piece", recv(in_pieces, got, sizeof got, MSG_DONTWAIT), i < 2 ? 1000 : 500);
		EXPECT(memcmp(got, data + i * 1000, i < 2 ? 1000 : 500) == 0, "piece %d has other bytes", i);
	}
	EXPECT_EQ("the whole", sendto(of_whole, "", 0, 0, &whole.any, size_of(&whole)), 0);
	await_input(in_whole);
	EXPECT_EQ("the whole", recv(in_whole, got, sizeof got, MSG_DONTWAIT), 2000);
	EXPECT_EQ("UDP_SEGMENT", number(of_whole, IPPROTO_UDP, UDP_SEGMENT), 1000);
	if (with_v6) {
		EXPECT_EQ("nothing more of IPv6", sendto(of_six, "", 0, 0, &six.any, size_of(&six)), 0);
		EXPECT_EQ("hop limit", came_with(in_six, IPPROTO_IPV6, IPV6_HOPLIMIT), 44);
		EXPECT_EQ("traffic class", came_with(in_six, IPPROTO_IPV6, IPV6_TCLASS), 0x40);
		EXPECT_EQ("flow label", ntohl(came_with(in_six, IPPROTO_IPV6, IPV6_FLOWINFO)) & 0xfffff, 0x12345);
	}
	passed();
}
