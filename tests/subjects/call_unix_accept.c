/* Moved inside accept: it goes on waiting, and then accepts who comes. */
#include "call.h"
#include "unix.h"

static int listener, client;

static struct answer call(void)
{
	struct answer answer = ANSWER(accept(listener, NULL, NULL));

	return answer.value >= 0 ? (struct answer){ 0, 0 } : answer;
}

static void wake(pid_t tid)
{
	(void)tid;
	EXPECT(connect_to_path(client, "socket") == 0, "connect: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	listener = bound_to_path(SOCK_STREAM, "socket");
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(client >= 0 && listen(listener, 5) == 0);
	block_until_check("accept", call, wake, (struct answer){ 0, 0 });
	passed();
}
