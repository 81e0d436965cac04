/* Netlink sockets: port ID, groups, peer, options; they ask the kernel and hear of each other after the move. */
#include "inet.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

static int opened(int protocol, uint32_t port)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_pid = port };

	NEED(fd >= 0);
	if (port != 0)
		NEED(bind(fd, (struct sockaddr *)&at, sizeof at) == 0);
	return fd;
}

static void expect_port(const char *what, int fd, uint32_t port)
{
	struct sockaddr_nl got;

	EXPECT_OK(getsockname(fd, (struct sockaddr *)&got, &(socklen_t){ sizeof got }));
	EXPECT(got.nl_pid == port, "%s: port ID %u, not %u", what, got.nl_pid, port);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int route = opened(NETLINK_ROUTE, 0x7123), fresh = opened(NETLINK_ROUTE, 0), member = opened(NETLINK_USERSOCK, 0x7124);
	int sender = opened(NETLINK_USERSOCK, 0x7125);
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = 1 << 4 };

	if (setsockopt(member, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &(int){ 5 }, sizeof(int)) != 0 && errno == EPERM)
		skipped("joining a group takes root");
	set_number(member, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 32);
	NEED(connect(sender, (struct sockaddr *)&to, sizeof to) == 0);
	set_number(route, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set_number(route, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
	set_number(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK);
	ready();
	await_check();

	expect_port("of routes", route, 0x7123);
	expect_port("of nothing", fresh, 0);
	expect_port("the member", member, 0x7124);
	EXPECT_EQ("NETLINK_EXT_ACK", number(route, SOL_NETLINK, NETLINK_EXT_ACK), 1);
	EXPECT_EQ("NETLINK_NO_ENOBUFS", number(route, SOL_NETLINK, NETLINK_NO_ENOBUFS), 1);
	uint32_t groups[8] = { 0 };
	EXPECT_OK(getsockopt(member, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &(socklen_t){ sizeof groups }));
	EXPECT_EQ("groups of the member", groups[0], 1U << 4 | 1U << 31);
	memset(groups, 0, sizeof groups);
	EXPECT_OK(getsockopt(route, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &(socklen_t){ sizeof groups }));
	EXPECT_EQ("groups of that of routes", groups[0], 1U << (RTNLGRP_LINK - 1));
	/* To the group that it is connected to, and to the kernel, where nobody hears what is for this protocol. */
	EXPECT(send(sender, "told", 4, 0) == 4 || errno == ECONNREFUSED, "send: %s", strerror(errno));
	char text[4096];
	struct sockaddr_nl from = { 0 };
	EXPECT_EQ("heard", recvfrom(member, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &(socklen_t){ sizeof from }), 4);
	EXPECT_EQ("from", from.nl_pid, 0x7125);
	/* The kernel answers. */
	struct { struct nlmsghdr head; struct ifinfomsg about; } question = {
		{ sizeof question, RTM_GETLINK, NLM_F_REQUEST, 1, 0 }, { .ifi_index = 1 }
	};
	EXPECT_EQ("asked", send(route, &question, sizeof question, 0), sizeof question);
	EXPECT(recv(route, text, sizeof text, MSG_DONTWAIT) > 0, "the answer: %s", strerror(errno));
	EXPECT_EQ("what was answered", ((struct nlmsghdr *)text)->nlmsg_type, RTM_NEWLINK);
	EXPECT_EQ("asked by the other", send(fresh, &question, sizeof question, 0), sizeof question);
	EXPECT(recv(fresh, text, sizeof text, MSG_DONTWAIT) > 0, "the answer to the other: %s", strerror(errno));
	passed();
}
