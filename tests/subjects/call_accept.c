/* Moved inside an accept of a TCP listener. */
#include "call.h"
#include "inet.h"

static int listener;

static struct answer call(void)
{
	int fd = accept(listener, NULL, NULL);

	return (struct answer){ fd >= 0 ? 0 : -1, fd >= 0 ? 0 : errno };
}

static void connect_to_it(pid_t tid)
{
	address at = v4("127.0.0.1", 20241);
	int client = socket(AF_INET, SOCK_STREAM, 0);

	(void)tid;
	EXPECT(connect(client, &at.any, size_of(&at)) == 0, "connect: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	listener = bound_to(SOCK_STREAM, 0, v4("127.0.0.1", 20241));
	NEED(listen(listener, 3) == 0);
	block_until_check("accept", call, connect_to_it, (struct answer){ 0, 0 });
	passed();
}
