/* Moved inside a read of a terminal. */
#include "pty.h"
#include "call.h"

static int master, slave;
static char got[16];

static struct answer call(void)
{
	return ANSWER(read(slave, got, sizeof got));
}

static void end_line(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("length written", write(master, "line\n", 5), 5);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	master = master_of(O_CLOEXEC);
	slave = slave_of(master, O_RDWR);
	block_until_check("pty_read", call, end_line, (struct answer){ 5, 0 });
	EXPECT(strcmp(got, "line\n") == 0, "it read %s", got);
	passed();
}
