/* UDP and UDP-Lite sockets: unbound, bound (to an address, to any, of IPv6 alone and both), connected; they work after the move. */
#include "inet.h"

static void send_and_receive(const char *what, int from, int to, address sender, address target)
{
	EXPECT(sendto(from, what, strlen(what), 0, &target.any, size_of(&target)) == (ssize_t)strlen(what), "%s: %s", what,
	       strerror(errno));
	expect_datagram(what, to, what, strlen(what), sender);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	address a = v4("127.0.0.1", 20101), b = v4("127.0.0.1", 20102), any = v4("0.0.0.0", 20103), nothing = v4("0.0.0.0", 0);
	address to_any = v4("127.0.0.1", 20103), client_name, lite_name = v4("127.0.0.1", 20104);
	int unbound = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	int one = bound_to(SOCK_DGRAM, 0, a), two = bound_to(SOCK_DGRAM, 0, b), wild = bound_to(SOCK_DGRAM, 0, any);
	/* Never bound by itself: the connect gave it its address. */
	int client = socket(AF_INET, SOCK_DGRAM, 0);

	NEED(unbound >= 0 && client >= 0);
	NEED(connect(client, &to_any.any, size_of(&to_any)) == 0);
	client_name = name_of(client);
	NEED(connect(two, &a.any, size_of(&a)) == 0);
	int lite = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
	if (lite >= 0) {
		NEED(bind(lite, &lite_name.any, size_of(&lite_name)) == 0);
		set_number(lite, IPPROTO_UDPLITE, 10, 12);
	}
	int with_v6 = has_v6(), only = -1, both = -1;
	address six = v6("::1", 20105), dual = v6("::", 20106);
	if (with_v6) {
		only = socket(AF_INET6, SOCK_DGRAM, 0);
		set_number(only, IPPROTO_IPV6, IPV6_V6ONLY, 1);
		NEED(bind(only, &six.any, size_of(&six)) == 0);
		both = socket(AF_INET6, SOCK_DGRAM, 0);
		set_number(both, IPPROTO_IPV6, IPV6_V6ONLY, 0);
		NEED(bind(both, &dual.any, size_of(&dual)) == 0);
	}
	ready();
	await_check();

	EXPECT_EQ("flags of the unbound one", fcntl(unbound, F_GETFL), O_RDWR | O_NONBLOCK);
	expect_name("the unbound one", unbound, nothing);
	expect_name("the first", one, a);
	expect_name("the second", two, b);
	expect_name("the one at any address", wild, any);
	expect_name("the client", client, client_name);
	expect_peer("the second", two, a);
	expect_peer("the client", client, to_any);
	EXPECT(getpeername(one, &nothing.any, &(socklen_t){ sizeof nothing }) == -1 && errno == ENOTCONN, "the first is connected");
	for (int i = 0; i < 2; i++)
		expect_nothing("a bound one", i ? wild : one);
	EXPECT_EQ("sent by the connected one", send(two, "hello", 5, 0), 5);
	expect_datagram("of the connected one", one, "hello", 5, b);
	/* It takes nothing from others. */
	EXPECT_EQ("sent by another", sendto(wild, "x", 1, 0, &b.any, size_of(&b)), 1);
	expect_nothing("the connected one", two);
	send_and_receive("answer", one, two, a, b);
	EXPECT_EQ("sent by the client", send(client, "ask", 3, 0), 3);
	expect_datagram("of the client", wild, "ask", 3, client_name);
	/* A second bind is refused: it is bound in truth. */
	address c = v4("127.0.0.1", 20199);
	EXPECT(bind(one, &c.any, size_of(&c)) == -1 && errno == EINVAL, "a bound socket could be bound again");
	EXPECT(bind(unbound, &a.any, size_of(&a)) == -1 && errno == EADDRINUSE, "the port is not taken");
	if (lite >= 0) {
		expect_name("the UDP-Lite one", lite, lite_name);
		EXPECT_EQ("checksum coverage", number(lite, IPPROTO_UDPLITE, 10), 12);
		EXPECT_EQ("protocol", number(lite, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDPLITE);
		EXPECT_EQ("sent by UDP-Lite", sendto(lite, "lite", 4, 0, &lite_name.any, size_of(&lite_name)), 4);
		expect_datagram("by UDP-Lite", lite, "lite", 4, lite_name);
	}
	if (with_v6) {
		expect_name("the one of IPv6", only, six);
		expect_name("the one of both", both, dual);
		EXPECT_EQ("IPV6_V6ONLY", number(only, IPPROTO_IPV6, IPV6_V6ONLY), 1);
		EXPECT_EQ("IPV6_V6ONLY of both", number(both, IPPROTO_IPV6, IPV6_V6ONLY), 0);
		address mapped = v6("::ffff:127.0.0.1", 20101), at_six = v6("::1", 20106), at_four = v4("127.0.0.1", 20106);
		send_and_receive("six", only, both, six, at_six);
		send_and_receive("four", one, both, mapped, at_four);
	}
	passed();
}
