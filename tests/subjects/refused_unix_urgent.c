/* Urgent data in a unix socket: refused by name, and still there afterwards. */
#include "unix.h"

int main(int argc, char **argv)
{
	int ends[2];
	char byte = 0;

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	if (send(ends[0], "before!", 7, MSG_OOB) != 7)
		skipped("this kernel has no urgent data in unix sockets (CONFIG_AF_UNIX_OOB)");
	ready();
	await_check();

	EXPECT(recv(ends[1], &byte, 1, MSG_OOB) == 1 && byte == '!', "the urgent byte: %d, %s", byte, strerror(errno));
	expect_text("what came before", ends[1], "before");
	passed();
}
