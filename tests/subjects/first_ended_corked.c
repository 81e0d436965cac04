/* The first thread has ended, and a UDP socket holds back data. */
#include "first_ended.h"
#include "inet.h"

static int fd;

static void *go_on(void *unused)
{
	address at = v4("127.0.0.1", 20411);

	await_end_of_first();
	ready();
	await_check();
	expect_first_ended();
	expect_nothing("before the rest is sent", fd);
	EXPECT_EQ("the rest", sendto(fd, "two", 3, 0, &at.any, size_of(&at)), 3);
	expect_datagram("both", fd, "one two", 7, at);
	passed();
	return unused;
}

int main(int argc, char **argv)
{
	address at = v4("127.0.0.1", 20411);

	begin(argc, argv);
	fd = bound_to(SOCK_DGRAM, 0, at);
	NEED(sendto(fd, "one ", 4, MSG_MORE, &at.any, size_of(&at)) == 4);
	start_thread(go_on, NULL);
	be_the_first();
	syscall(SYS_exit, 0);
}
