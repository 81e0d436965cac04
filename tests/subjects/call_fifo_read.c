/* Moved inside a read of an empty FIFO. */
#include "call.h"

static int reader, writer;
static char got[32];

static struct answer call(void)
{
	return ANSWER(read(reader, got, sizeof got));
}

static void put(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("length written", write(writer, "hello", 5), 5);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(mkfifo(path_of("fifo"), 0600) == 0);
	int both = open(path_of("fifo"), O_RDWR);
	NEED(both >= 0 && (reader = open(path_of("fifo"), O_RDONLY)) >= 0 && (writer = open(path_of("fifo"), O_WRONLY)) >= 0);
	close(both);
	block_until_check("FIFO_read", call, put, (struct answer){ 5, 0 });
	EXPECT(memcmp(got, "hello", 5) == 0, "what was read: %.5s", got);
	passed();
}
