/* Moved inside recv of a unix socket that is empty: it goes on waiting, and then gets what comes. */
#include "call.h"
#include <sys/socket.h>

static int ends[2];
static char byte;

static struct answer call(void)
{
	return ANSWER(recv(ends[0], &byte, 1, 0));
}

static void wake(pid_t tid)
{
	(void)tid;
	EXPECT(send(ends[1], "x", 1, 0) == 1, "send: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	block_until_check("recv", call, wake, (struct answer){ 1, 0 });
	EXPECT_EQ("what came", byte, 'x');
	passed();
}
