/* Multicast groups: joined, with chosen and with refused senders, IPv4 and IPv6; another socket has joined nothing. */
#include "inet.h"

static const struct group_source_req source(address group, address sender)
{
	struct group_source_req request = { .gsr_interface = if_nametoindex("lo") };

	memcpy(&request.gsr_group, &group, size_of(&group));
	memcpy(&request.gsr_source, &sender, size_of(&sender));
	return request;
}

static void join(int fd, int level, address group)
{
	struct group_req request = { .gr_interface = if_nametoindex("lo") };

	memcpy(&request.gr_group, &group, size_of(&group));
	NEED(setsockopt(fd, level, MCAST_JOIN_GROUP, &request, sizeof request) == 0);
}

/* By `from` to a group, on the loopback interface. */
static void send_to(int from, address group)
{
	EXPECT(sendto(from, "m", 1, 0, &group.any, size_of(&group)) == 1, "send to %s: %s", shown(&group), strerror(errno));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	address port = v4("0.0.0.0", 20131), all = v4("239.9.9.1", 20131), chosen = v4("239.9.9.2", 20131), without = v4("239.9.9.3", 20131);
	address good = v4("127.0.0.1", 20132), bad = v4("127.0.0.2", 20132);
	int member = bound_to(SOCK_DGRAM, 0, port), sender = bound_to(SOCK_DGRAM, 0, good), other = bound_to(SOCK_DGRAM, 0, bad);
	struct in_addr on = { htonl(INADDR_LOOPBACK) };
	struct group_source_req request;

	NEED(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &on, sizeof on) == 0);
	NEED(setsockopt(other, IPPROTO_IP, IP_MULTICAST_IF, &on, sizeof on) == 0);
	set_number(member, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	join(member, IPPROTO_IP, all);
	request = source(chosen, good);
	NEED(setsockopt(member, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &request, sizeof request) == 0);
	join(member, IPPROTO_IP, without);
	request = source(without, bad);
	NEED(setsockopt(member, IPPROTO_IP, MCAST_BLOCK_SOURCE, &request, sizeof request) == 0);
	address six_port = v6("::", 20133), six = v6("ff15::1234", 20133);
	int with_v6 = has_v6(), member6 = -1, stranger6 = -1;
	if (with_v6) {
		member6 = bound_to(SOCK_DGRAM, 0, six_port);
		join(member6, IPPROTO_IPV6, six);
		stranger6 = bound_to(SOCK_DGRAM, 0, v6("::1", 20134));
	}
	ready();
	await_check();

	send_to(sender, all);
	expect_datagram("to the group", member, "m", 1, good);
	send_to(sender, chosen);
	expect_datagram("of the chosen sender", member, "m", 1, good);
	send_to(other, chosen);
	expect_nothing("of another than the chosen sender", member);
	send_to(sender, without);
	expect_datagram("of a sender that is not refused", member, "m", 1, good);
	send_to(other, without);
	expect_nothing("of a refused sender", member);
	request = source(chosen, good);
	EXPECT_OK(setsockopt(member, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, &request, sizeof request));
	struct group_req leave = { .gr_interface = if_nametoindex("lo") };
	memcpy(&leave.gr_group, &all, size_of(&all));
	EXPECT(setsockopt(sender, IPPROTO_IP, MCAST_LEAVE_GROUP, &leave, sizeof leave) == -1 && errno == EADDRNOTAVAIL,
	       "a socket has joined what it had not");
	EXPECT_OK(setsockopt(member, IPPROTO_IP, MCAST_LEAVE_GROUP, &leave, sizeof leave));
	if (with_v6) {
		/* The loopback interface has no route for groups of IPv6, but can be a member. */
		memcpy(&leave.gr_group, &six, size_of(&six));
		EXPECT(setsockopt(stranger6, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &leave, sizeof leave) == -1 && errno == EADDRNOTAVAIL,
		       "a socket of IPv6 has joined what it had not");
		EXPECT_OK(setsockopt(member6, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &leave, sizeof leave));
	}
	passed();
}
