/* Descriptors in flight in a stream behind something else: where they belong cannot be told; refused, and still there afterwards. */
#include "unix.h"

int main(int argc, char **argv)
{
	int ends[2];
	char bytes[64];

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	NEED(send(ends[0], "before ", 7, 0) == 7 && send_with(ends[0], "with", 4, ends, 1, NULL) == 4);
	ready();
	await_check();

	EXPECT_EQ("peek offset", option(ends[1], SO_PEEK_OFF), -1);
	struct received got = receive(ends[1], bytes, sizeof bytes, 0);
	EXPECT(got.length == 11 && got.count == 1, "%zd bytes, %d descriptors", got.length, got.count);
	expect_connected("what came", got.fds[0], ends[1]);
	passed();
}
