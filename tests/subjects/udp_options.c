/* Options of UDP sockets: of every socket, of IPv4 and IPv6, of UDP; a classic filter. What nobody has set is as it was. */
#include "inet.h"
#include <linux/filter.h>
#include <netinet/udp.h>

struct option { int level, name, value; };

static const struct option of_v4[] = {
	{ SOL_SOCKET, SO_BROADCAST, 1 }, { SOL_SOCKET, SO_REUSEADDR, 1 }, { SOL_SOCKET, SO_PRIORITY, 3 },
	{ SOL_SOCKET, SO_RXQ_OVFL, 1 }, { SOL_SOCKET, SO_TIMESTAMPNS, 1 }, { SOL_SOCKET, SO_DONTROUTE, 1 },
	{ SOL_SOCKET, SO_MARK, 77 }, { IPPROTO_IP, IP_TTL, 9 }, { IPPROTO_IP, IP_PKTINFO, 1 }, { IPPROTO_IP, IP_RECVTTL, 1 },
	{ IPPROTO_IP, IP_RECVTOS, 1 }, { IPPROTO_IP, IP_RECVERR, 1 }, { IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE },
	{ IPPROTO_IP, IP_MULTICAST_TTL, 5 }, { IPPROTO_IP, IP_MULTICAST_LOOP, 0 }, { IPPROTO_IP, IP_MULTICAST_ALL, 0 },
	{ IPPROTO_IP, IP_FREEBIND, 1 }, { IPPROTO_IP, IP_TRANSPARENT, 1 }, { IPPROTO_IP, IP_RECVORIGDSTADDR, 1 },
	{ IPPROTO_UDP, UDP_GRO, 1 }, { IPPROTO_UDP, UDP_SEGMENT, 1200 },
};

static const struct option of_v6[] = {
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 11 }, { IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 12 }, { IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0 },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, 1 }, { IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1 }, { IPPROTO_IPV6, IPV6_RECVTCLASS, 1 },
	{ IPPROTO_IPV6, IPV6_TCLASS, 0x20 }, { IPPROTO_IPV6, IPV6_RECVERR, 1 }, { IPPROTO_IPV6, IPV6_DONTFRAG, 1 },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO }, { IPPROTO_IPV6, IPV6_V6ONLY, 1 }, { IPPROTO_IP, IP_TTL, 13 },
};

#define COUNT(of) (sizeof of / sizeof of[0])

static void set_all(int fd, const struct option *of, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (setsockopt(fd, of[i].level, of[i].name, &of[i].value, sizeof(int)) != 0)
			failed("setting up: option %d/%d: %s", of[i].level, of[i].name, strerror(errno));
}

static void expect_all(int fd, const struct option *of, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int got = number(fd, of[i].level, of[i].name);

		EXPECT(got == of[i].value, "option %d/%d: expected %d, got %d", of[i].level, of[i].name, of[i].value, got);
	}
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int untouched = socket(AF_INET, SOCK_DGRAM, 0), four = socket(AF_INET, SOCK_DGRAM, 0), tos = socket(AF_INET, SOCK_DGRAM, 0);
	int filtered = bound_to(SOCK_DGRAM, 0, v4("127.0.0.1", 20121)), with_v6 = has_v6(), six = -1;
	struct timeval time = { 3, 500000 };

	NEED(untouched >= 0 && four >= 0);
	if (geteuid() != 0)
		skipped("IP_TRANSPARENT, SO_MARK and others take root");
	set_all(four, of_v4, COUNT(of_v4));
	/* An address that no host has: only IP_FREEBIND makes it possible. */
	address strange = v4("192.0.2.77", 20122);
	NEED(bind(four, &strange.any, size_of(&strange)) == 0);
	NEED(setsockopt(four, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
	set_number(four, SOL_SOCKET, SO_SNDBUF, 30000);
	int send_buffer = number(four, SOL_SOCKET, SO_SNDBUF), receive_buffer = number(untouched, SOL_SOCKET, SO_RCVBUF);
	/* Setting IP_TOS changes the priority, which is then set back. */
	set_number(tos, IPPROTO_IP, IP_TOS, 0x10);
	NEED(number(tos, SOL_SOCKET, SO_PRIORITY) != 0);
	set_number(tos, SOL_SOCKET, SO_PRIORITY, 0);
	if (with_v6) {
		six = socket(AF_INET6, SOCK_DGRAM, 0);
		set_all(six, of_v6, COUNT(of_v6));
		set_number(six, IPPROTO_IPV6, IPV6_MULTICAST_IF, if_nametoindex("lo"));
	}
	/* Only datagrams whose first byte is 'y' pass. */
	struct sock_filter steps[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
				       BPF_STMT(BPF_RET | BPF_K, 0xffff), BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog program = { 4, steps };
	NEED(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
	set_number(filtered, SOL_SOCKET, SO_LOCK_FILTER, 1);
	ready();
	await_check();

	expect_all(four, of_v4, COUNT(of_v4));
	expect_name("the one at an address of nobody", four, strange);
	struct timeval got;
	EXPECT_OK(getsockopt(four, SOL_SOCKET, SO_RCVTIMEO, &got, &(socklen_t){ sizeof got }));
	EXPECT(got.tv_sec == 3 && got.tv_usec == 500000, "SO_RCVTIMEO: %ld.%06ld", (long)got.tv_sec, (long)got.tv_usec);
	EXPECT_EQ("SO_SNDBUF", number(four, SOL_SOCKET, SO_SNDBUF), send_buffer);
	EXPECT_EQ("SO_RCVBUF that nobody set", number(untouched, SOL_SOCKET, SO_RCVBUF), receive_buffer);
	EXPECT_EQ("SO_BROADCAST that nobody set", number(untouched, SOL_SOCKET, SO_BROADCAST), 0);
	EXPECT_EQ("IP_TOS", number(tos, IPPROTO_IP, IP_TOS), 0x10);
	EXPECT_EQ("SO_PRIORITY beside it", number(tos, SOL_SOCKET, SO_PRIORITY), 0);
	if (with_v6) {
		expect_all(six, of_v6, COUNT(of_v6));
		EXPECT_EQ("IPV6_MULTICAST_IF", number(six, IPPROTO_IPV6, IPV6_MULTICAST_IF), if_nametoindex("lo"));
	}
	address to = v4("127.0.0.1", 20121);
	EXPECT_OK(sendto(untouched, "no", 2, 0, &to.any, size_of(&to)));
	EXPECT_OK(sendto(untouched, "yes", 3, 0, &to.any, size_of(&to)));
	char text[8];
	await_input(filtered);
	EXPECT_EQ("what passes the filter", recv(filtered, text, sizeof text, MSG_DONTWAIT), 3);
	expect_nothing("the filtered one", filtered);
	EXPECT(setsockopt(filtered, SOL_SOCKET, SO_DETACH_FILTER, &(int){ 0 }, sizeof(int)) == -1 && errno == EPERM,
	       "the filter is not locked");
	passed();
}
