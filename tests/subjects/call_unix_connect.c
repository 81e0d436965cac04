/* Moved inside connect to a listener whose queue is full: it goes on waiting until there is room. */
#include "call.h"
#include "unix.h"

static int listener, client, others[2];

static struct answer call(void)
{
	return ANSWER(connect_to_path(client, "socket"));
}

static void wake(pid_t tid)
{
	(void)tid;
	for (int i = 0; i < 2; i++)
		EXPECT(accept(listener, NULL, NULL) >= 0, "accept: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	listener = bound_to_path(SOCK_STREAM, "socket");
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(client >= 0 && listen(listener, 1) == 0);
	for (int i = 0; i < 2; i++) {
		others[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		NEED(others[i] >= 0 && connect_to_path(others[i], "socket") == 0);
	}
	block_until_check("connect", call, wake, (struct answer){ 0, 0 });
	int accepted = accept(listener, NULL, NULL);
	EXPECT(accepted >= 0, "accept: %s", strerror(errno));
	expect_connected("the one that waited", client, accepted);
	passed();
}
