/* Holds a TCP connection, which cannot move yet: refused with both addresses, and it goes on here. */
#include "inet.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	address at = v4("127.0.0.1", 20221);
	address from = v4("127.0.0.1", 20222);
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), server;
	char text[8];

	/* What is left of an earlier one keeps the ports for a minute. */
	set_number(listener, SOL_SOCKET, SO_REUSEADDR, 1);
	set_number(client, SOL_SOCKET, SO_REUSEADDR, 1);
	NEED(bind(listener, &at.any, size_of(&at)) == 0 && bind(client, &from.any, size_of(&from)) == 0);
	NEED(listen(listener, 1) == 0 && connect(client, &at.any, size_of(&at)) == 0);
	NEED((server = accept(listener, NULL, NULL)) >= 0 && close(listener) == 0);
	NEED(write(client, "hello", 5) == 5);
	ready();
	await_check();
	EXPECT_EQ("read", read(server, text, sizeof text), 5);
	EXPECT_EQ("written", write(server, "back", 4), 4);
	EXPECT_EQ("read back", read(client, text, sizeof text), 4);
	passed();
}
