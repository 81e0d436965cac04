/* Moved inside an open(2) of a FIFO that waits for its other end. */
#include "call.h"

static char got[8];

static struct answer call(void)
{
	int fd = open(path_of("fifo"), O_RDONLY);

	if (fd < 0)
		return (struct answer){ -1, errno };
	return ANSWER(read(fd, got, sizeof got));
}

static void come(pid_t tid)
{
	(void)tid;
	int fd = open(path_of("fifo"), O_WRONLY);

	EXPECT(fd >= 0, "open for writing: %s", strerror(errno));
	EXPECT_EQ("length written", write(fd, "hello", 5), 5);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(mkfifo(path_of("fifo"), 0600) == 0);
	block_until_check("open of a FIFO", call, come, (struct answer){ 5, 0 });
	EXPECT(memcmp(got, "hello", 5) == 0, "what was read: %.5s", got);
	passed();
}
