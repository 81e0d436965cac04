/* One pipe with several descriptions of its reading end, one for both directions, and one more of its writing end: the content is there once. */
#include "subject.h"
#include <sys/ioctl.h>

static int again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, flags);
}

int main(int argc, char **argv)
{
	int ends[2], waiting = 0;
	char in[64];

	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	int reader = again(ends[0], O_RDONLY | O_NONBLOCK), both = again(ends[0], O_RDWR | O_NONBLOCK);
	int writer = again(ends[0], O_WRONLY);
	NEED(reader >= 0 && both >= 0 && writer >= 0);
	NEED(write(writer, "content", 7) == 7);
	ready();
	await_check();

	EXPECT_OK(ioctl(both, FIONREAD, &waiting));
	EXPECT_EQ("bytes in it", waiting, 7);
	EXPECT_EQ("length read", read(reader, in, 3), 3);
	EXPECT_EQ("length read by another", read(ends[0], in + 3, sizeof in - 3), 4);
	EXPECT(memcmp(in, "content", 7) == 0, "the content changed: %.7s", in);
	EXPECT(read(both, in, 1) == -1 && errno == EAGAIN, "the pipe is not empty");
	EXPECT_EQ("flags of the first reader", fcntl(ends[0], F_GETFL), O_RDONLY);
	EXPECT_EQ("flags of the second", fcntl(reader, F_GETFL) & ~0100000, O_RDONLY | O_NONBLOCK);
	EXPECT_EQ("written to both", write(both, "x", 1), 1);
	EXPECT_EQ("read from it", read(reader, in, sizeof in), 1);
	passed();
}
