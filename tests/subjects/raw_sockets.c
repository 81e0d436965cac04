/* Raw and ping sockets: protocol, address, peer, ICMP_FILTER, header included, IPV6_CHECKSUM; they receive after the move. */
#include "inet.h"
#include <linux/icmp.h>
#include <netinet/icmp6.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	int icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);

	if (icmp < 0 && errno == EPERM)
		skipped("a raw socket takes CAP_NET_RAW");
	/* Echo requests alone, at one address. */
	struct icmp_filter filter = { ~(1U << ICMP_ECHO) }, got;
	address here = v4("127.0.0.3", 0), there = v4("127.0.0.1", 0);
	NEED(icmp >= 0 && setsockopt(icmp, SOL_RAW, ICMP_FILTER, &filter, sizeof filter) == 0);
	NEED(bind(icmp, &here.any, size_of(&here)) == 0);
	int with_header = socket(AF_INET, SOCK_RAW, IPPROTO_RAW), own = socket(AF_INET, SOCK_RAW, 253);
	set_number(own, IPPROTO_IP, IP_HDRINCL, 1);
	NEED(connect(own, &there.any, size_of(&there)) == 0);
	int ping = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), with_v6 = has_v6(), six = -1;
	address identifier = v4("127.0.0.1", 4711);
	if (ping >= 0)
		NEED(bind(ping, &identifier.any, size_of(&identifier)) == 0);
	if (with_v6) {
		six = socket(AF_INET6, SOCK_RAW, 254);
		set_number(six, SOL_RAW, IPV6_CHECKSUM, 6);
	}
	ready();
	await_check();

	EXPECT_EQ("protocol", number(icmp, SOL_SOCKET, SO_PROTOCOL), IPPROTO_ICMP);
	EXPECT_OK(getsockopt(icmp, SOL_RAW, ICMP_FILTER, &got, &(socklen_t){ sizeof got }));
	EXPECT_EQ("ICMP_FILTER", got.data, filter.data);
	EXPECT_EQ("IP_HDRINCL of IPPROTO_RAW", number(with_header, IPPROTO_IP, IP_HDRINCL), 1);
	EXPECT_EQ("IP_HDRINCL", number(own, IPPROTO_IP, IP_HDRINCL), 1);
	address name = name_of(icmp);
	EXPECT(name.v4.sin_addr.s_addr == here.v4.sin_addr.s_addr, "bound to %s", shown(&name));
	/* Connected, it sends without being told where to; the header says protocol 253, and to itself. */
	struct { uint8_t head[20]; char data[4]; } whole = { { 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1 }, "own" };
	EXPECT(send(own, &whole, sizeof whole, 0) == sizeof whole, "send by the connected one: %s", strerror(errno));
	char back[64];
	await_input(own);
	EXPECT_EQ("received of its own protocol", recv(own, back, sizeof back, MSG_DONTWAIT), sizeof whole);
	EXPECT(memcmp(back + 20, "own", 4) == 0, "other bytes of its own protocol");
	/* An echo request to its address, and one to another. */
	struct icmphdr request = { .type = ICMP_ECHO, .un.echo = { htons(9), htons(1) } };
	uint16_t *words = (uint16_t *)&request;
	uint32_t sum = words[0] + words[2] + words[3];
	request.checksum = ~(uint16_t)((sum & 0xffff) + (sum >> 16));
	int sender = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	EXPECT_OK(sendto(sender, &request, sizeof request, 0, &there.any, size_of(&there)));
	expect_nothing("the one at another address", icmp);
	EXPECT_OK(sendto(sender, &request, sizeof request, 0, &here.any, size_of(&here)));
	char packet[100];
	await_input(icmp);
	EXPECT_EQ("length received", recv(icmp, packet, sizeof packet, MSG_DONTWAIT), 20 + sizeof request);
	EXPECT_EQ("type received", packet[20], ICMP_ECHO);
	expect_nothing("beside the request", icmp);
	if (ping >= 0) {
		expect_name("the ping socket", ping, identifier);
		EXPECT_OK(sendto(ping, &request, sizeof request, 0, &identifier.any, size_of(&identifier)));
		EXPECT_EQ("length of the answer", recv(ping, packet, sizeof packet, 0), sizeof request);
		EXPECT_EQ("type of the answer", packet[0], ICMP_ECHOREPLY);
	}
	if (with_v6) {
		EXPECT_EQ("IPV6_CHECKSUM", number(six, SOL_RAW, IPV6_CHECKSUM), 6);
		EXPECT_EQ("protocol of IPv6", number(six, SOL_SOCKET, SO_PROTOCOL), 254);
	}
	passed();
}
