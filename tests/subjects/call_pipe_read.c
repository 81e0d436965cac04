/* Moved inside a read of an empty pipe. */
#include "call.h"

static int ends[2];
static char got[32];

static struct answer call(void)
{
	return ANSWER(read(ends[0], got, sizeof got));
}

static void put(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("length written", write(ends[1], "hello", 5), 5);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	block_until_check("pipe_read", call, put, (struct answer){ 5, 0 });
	EXPECT(memcmp(got, "hello", 5) == 0, "what was read: %.5s", got);
	passed();
}
