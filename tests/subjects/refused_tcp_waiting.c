/* Two connections wait for its listener: refused with their number, and they can be accepted here. */
#include "inet.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	address at = v4("127.0.0.1", 20231);
	int listener = bound_to(SOCK_STREAM, 0, at);

	NEED(listen(listener, 5) == 0);
	for (int i = 0; i < 2; i++) {
		int client = socket(AF_INET, SOCK_STREAM, 0);

		/* The other end's fate is no matter of this test: gone, but what it made waits on. */
		NEED(client >= 0 && connect(client, &at.any, size_of(&at)) == 0 && close(client) == 0);
	}
	ready();
	await_check();
	for (int i = 0; i < 2; i++)
		EXPECT_OK(accept(listener, NULL, NULL));
	passed();
}
