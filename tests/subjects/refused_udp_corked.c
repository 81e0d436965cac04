/* Data that a UDP socket holds back with options of IP, which cannot be told: refused by name, and it can be sent here. */
#include "inet.h"

int main(int argc, char **argv)
{
	address at = v4("127.0.0.1", 20291);
	/* The route is recorded. */
	unsigned char options[] = { 7, 7, 4, 0, 0, 0, 0, 0 };

	begin(argc, argv);
	int fd = bound_to(SOCK_DGRAM, 0, at);
	NEED(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, sizeof options) == 0);
	NEED(sendto(fd, "one ", 4, MSG_MORE, &at.any, size_of(&at)) == 4);
	ready();
	await_check();
	EXPECT_EQ("sent", sendto(fd, "two", 3, 0, &at.any, size_of(&at)), 3);
	expect_datagram("both", fd, "one two", 7, at);
	passed();
}
