/* What has not been read can be looked at by nobody: it stays, and it is there. */
#include "pty.h"

int main(int argc, char **argv)
{
	char text[16] = "";

	begin(argc, argv);
	int master = master_of(0), slave = slave_of(master, O_RDWR);
	NEED(write(slave, "unread", 6) == 6);
	ready();
	await_check();
	EXPECT(read(master, text, sizeof text - 1) == 6 && strcmp(text, "unread") == 0, "read %s", text);
	passed();
}
