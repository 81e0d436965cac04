/* An answer of the kernel waits in a netlink socket: refused by name, and it can be read here. */
#include "subject.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct { struct nlmsghdr head; struct ifinfomsg about; } question = {
		{ sizeof question, RTM_GETLINK, NLM_F_REQUEST, 1, 0 }, { .ifi_index = 1 }
	};
	char text[4096];

	begin(argc, argv);
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	NEED(fd >= 0 && send(fd, &question, sizeof question, 0) == sizeof question);
	ready();
	await_check();
	EXPECT(recv(fd, text, sizeof text, MSG_DONTWAIT) > 0, "the answer: %s", strerror(errno));
	passed();
}
