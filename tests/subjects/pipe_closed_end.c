/* Pipes of which one end is closed: content, then end of file; a write gets SIGPIPE. And one opened again by /proc. */
#include "subject.h"

static volatile int broken;

static void on_pipe(int signal)
{
	(void)signal;
	broken++;
}

int main(int argc, char **argv)
{
	int unwritten[2], empty[2], unread[2];
	char text[64];
	struct sigaction action = { .sa_handler = on_pipe };

	begin(argc, argv);
	NEED(sigaction(SIGPIPE, &action, NULL) == 0);
	NEED(pipe(unwritten) == 0 && pipe(empty) == 0 && pipe(unread) == 0);
	NEED(write(unwritten[1], "the end", 7) == 7 && write(unread[1], "lost", 4) == 4);
	close(unwritten[1]);
	close(empty[1]);
	close(unread[0]);
	ready();
	await_check();

	EXPECT_EQ("what is left", read(unwritten[0], text, sizeof text), 7);
	EXPECT(memcmp(text, "the end", 7) == 0, "what is left: %.7s", text);
	EXPECT_EQ("read at the end", read(unwritten[0], text, sizeof text), 0);
	EXPECT_EQ("read of the pipe that nobody writes", read(empty[0], text, sizeof text), 0);
	EXPECT(write(unread[1], "x", 1) == -1 && errno == EPIPE, "write to a pipe that nobody reads: %s", strerror(errno));
	EXPECT_EQ("SIGPIPEs", broken, 1);
	passed();
}
