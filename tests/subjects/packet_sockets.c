/* Packet sockets: protocol, interface, options, filter, memberships, a fanout group, unbound ones; they receive after the move. */
#include "inet.h"
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>

static int open_packet(int type, int protocol, int interface)
{
	int fd = socket(AF_PACKET, type, 0);
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = interface };

	if (fd < 0 && errno == EPERM)
		skipped("a packet socket takes CAP_NET_RAW");
	NEED(fd >= 0);
	set_number(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	if (protocol != 0 || interface != 0)
		NEED(bind(fd, (struct sockaddr *)&at, sizeof at) == 0);
	return fd;
}

static void send_packets(int port, int count)
{
	address to = v4("127.0.0.1", port);
	int sender = socket(AF_INET, SOCK_DGRAM, 0);

	for (int i = 0; i < count; i++)
		EXPECT_OK(sendto(sender, "packet", 6, MSG_NOSIGNAL, &to.any, size_of(&to)));
	close(sender);
}

/* How many UDP packets to this port wait, and are read; what else there is on the loopback is passed over. -1: nothing at all waits. */
static int waiting(int fd, int port)
{
	char packet[2048];
	ssize_t n;
	int seen = -1;

	while ((n = recv(fd, packet, sizeof packet, MSG_DONTWAIT)) >= 0) {
		if (seen < 0)
			seen = 0;
		if (n == 20 + 8 + 6 && memcmp(packet + 28, "packet", 6) == 0 && (packet[22] & 0xff) == port >> 8)
			seen++;
	}
	return seen;
}

static void expect_packets(const char *what, int fd, int port, int count)
{
	int seen = 0;

	for (int more = 0; more >= 0 && seen < count; seen += more > 0 ? more : 0) {
		await_input(fd);
		more = waiting(fd, port);
	}
	EXPECT_EQ(what, seen, count);
}

static void expect_bound(const char *what, int fd, int protocol, int interface)
{
	struct sockaddr_ll got;

	EXPECT_OK(getsockname(fd, (struct sockaddr *)&got, &(socklen_t){ sizeof got }));
	EXPECT(got.sll_protocol == htons(protocol) && got.sll_ifindex == interface, "%s: protocol 0x%x, interface %d", what,
	       ntohs(got.sll_protocol), got.sll_ifindex);
}

/* How many have asked an interface to take all packets. */
static int promiscuity(int interface)
{
	struct { struct nlmsghdr head; struct ifinfomsg about; } question = {
		{ sizeof question, RTM_GETLINK, NLM_F_REQUEST, 1, 0 }, { .ifi_index = interface }
	};
	static char answer[8192];
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	EXPECT_EQ("asked", send(fd, &question, sizeof question, 0), sizeof question);
	ssize_t length = recv(fd, answer, sizeof answer, 0);
	EXPECT(length > 0, "the answer: %s", strerror(errno));
	close(fd);
	struct nlmsghdr *head = (struct nlmsghdr *)answer;
	struct rtattr *one = IFLA_RTA(NLMSG_DATA(head));
	for (int left = IFLA_PAYLOAD(head); RTA_OK(one, left); one = RTA_NEXT(one, left))
		if (one->rta_type == IFLA_PROMISCUITY)
			return *(int *)RTA_DATA(one);
	return -1;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int lo = if_nametoindex("lo");
	address quiet = v4("127.0.0.1", 20281);
	/* So that what is sent there is not answered. */
	bound_to(SOCK_DGRAM, 0, quiet);
	int ip = open_packet(SOCK_DGRAM, ETH_P_IP, lo), unbound = open_packet(SOCK_RAW, 0, 0);
	int anywhere = open_packet(SOCK_RAW, ETH_P_ARP, 0), filtered = open_packet(SOCK_DGRAM, ETH_P_IP, lo);
	int fan[2] = { open_packet(SOCK_DGRAM, ETH_P_IP, lo), open_packet(SOCK_DGRAM, ETH_P_IP, lo) };

	set_number(ip, SOL_PACKET, PACKET_AUXDATA, 1);
	set_number(ip, SOL_SOCKET, SO_RCVBUF, 100000);
	NEED(fcntl(unbound, F_SETFL, O_NONBLOCK) == 0);
	struct packet_mreq promiscuous = { .mr_ifindex = lo, .mr_type = PACKET_MR_PROMISC };
	NEED(setsockopt(ip, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) == 0);
	/* Nothing passes. */
	struct sock_filter steps[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog program = { 1, steps };
	NEED(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
	int group = 77 | PACKET_FANOUT_LB << 16;
	for (int i = 0; i < 2; i++)
		set_number(fan[i], SOL_PACKET, PACKET_FANOUT, group);
	ready();
	await_check();

	expect_bound("the one of IPv4", ip, ETH_P_IP, lo);
	expect_bound("the unbound one", unbound, 0, 0);
	expect_bound("the one of any interface", anywhere, ETH_P_ARP, 0);
	EXPECT_EQ("type", number(unbound, SOL_SOCKET, SO_TYPE), SOCK_RAW);
	EXPECT_EQ("type of the one of IPv4", number(ip, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
	EXPECT_EQ("PACKET_AUXDATA", number(ip, SOL_PACKET, PACKET_AUXDATA), 1);
	EXPECT_EQ("SO_RCVBUF", number(ip, SOL_SOCKET, SO_RCVBUF), 200000);
	EXPECT_EQ("fanout group", number(fan[1], SOL_PACKET, PACKET_FANOUT), group);
	/* A fanout of two takes turns. */
	send_packets(20281, 10);
	expect_packets("the one of IPv4", ip, 20281, 10);
	expect_packets("the first of the fanout", fan[0], 20281, 5);
	expect_packets("the second of the fanout", fan[1], 20281, 5);
	EXPECT(waiting(filtered, 20281) <= 0, "something has passed the filter");
	int before = promiscuity(lo);
	EXPECT(before >= 1, "the interface is not promiscuous");
	EXPECT_OK(setsockopt(ip, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &promiscuous, sizeof promiscuous));
	EXPECT_EQ("promiscuity when it has left", promiscuity(lo), before - 1);
	passed();
}
