/* Moved inside a write of more than the pipe can take: no byte is lost or comes twice. */
#include "call.h"

#define LENGTH (3UL << 16)
static int ends[2];
static char data[LENGTH];

static struct answer call(void)
{
	size_t done = 0;

	/* An interrupted write may say that it wrote a part (pipe(7)); what counts is that no byte is lost or comes twice. */
	while (done < LENGTH) {
		ssize_t part = write(ends[1], data + done, LENGTH - done);

		EXPECT(part > 0, "write: %s", strerror(errno));
		done += part;
	}
	return (struct answer){ (long)done, 0 };
}

static void drain(pid_t tid)
{
	static char got[LENGTH];
	size_t length = 0;

	(void)tid;
	while (length < LENGTH) {
		ssize_t part = read(ends[0], got + length, LENGTH - length);

		EXPECT(part > 0, "read: %s", strerror(errno));
		length += part;
	}
	expect_filled("what went through the pipe", got, LENGTH, 1);
	EXPECT_OK(fcntl(ends[0], F_SETFL, O_NONBLOCK));
	EXPECT(read(ends[0], got, LENGTH) == -1 && errno == EAGAIN, "there is more in the pipe than was written");
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	fill(data, LENGTH, 1);
	block_until_check("pipe_write", call, drain, (struct answer){ LENGTH, 0 });
	passed();
}
