/* Moved inside a write to a full FIFO that is open for both. */
#include "call.h"

static int fifo;
static char bytes[1 << 16];

static struct answer call(void)
{
	return ANSWER(write(fifo, "last", 4));
}

static void take(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("length read", read(fifo, bytes, PAGE), PAGE);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(mkfifo(path_of("fifo"), 0600) == 0 && (fifo = open(path_of("fifo"), O_RDWR)) >= 0);
	NEED(fcntl(fifo, F_SETPIPE_SZ, sizeof bytes) == sizeof bytes && write(fifo, bytes, sizeof bytes) == sizeof bytes);
	block_until_check("FIFO_write", call, take, (struct answer){ 4, 0 });
	EXPECT_EQ("what is in it then", read(fifo, bytes, sizeof bytes), sizeof bytes - PAGE + 4);
	passed();
}
