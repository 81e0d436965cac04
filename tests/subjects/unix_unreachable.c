/*
 * A socket that is in flight in its own queue and nowhere else: nobody can receive it any more. The kernel closes it whenever it looks for
 * such; until then its peer is connected to one that no process has.
 */
#include "unix.h"

int main(int argc, char **argv)
{
	int stream[2], packets[2];
	char byte;

	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0);
	NEED(send_with(stream[0], "x", 1, &stream[1], 1, NULL) == 1 && send_with(packets[0], "x", 1, &packets[1], 1, NULL) == 1);
	close(stream[1]);
	close(packets[1]);
	ready();
	await_check();
	EXPECT_EQ("the end of the stream", recv(stream[0], &byte, 1, MSG_DONTWAIT), 0);
	EXPECT_EQ("the end of the packets", recv(packets[0], &byte, 1, MSG_DONTWAIT), 0);
	passed();
}
