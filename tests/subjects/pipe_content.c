/* Pipes with content: more than PIPE_BUF, capacity, packet mode with its boundaries, flags, both ends' duplicates; packets beside what is none. */
#include "subject.h"

static char out[1 << 17], in[1 << 17];

int main(int argc, char **argv)
{
	int plain[2], packets[2], empty[2], large[2], mixed[2];

	begin(argc, argv);
	NEED(pipe2(plain, O_CLOEXEC) == 0 && pipe2(packets, O_DIRECT | O_NONBLOCK) == 0 && pipe2(empty, 0) == 0 &&
	     pipe2(large, 0) == 0);
	fill(out, sizeof out, 1);
	/* Written in odd pieces, the first partly read: buffers that start in the middle of a page. */
	for (int at = 0; at < 40000; at += 1000)
		NEED(write(plain[1], out + at, 1000) == 1000);
	NEED(read(plain[0], in, 777) == 777);
	NEED(write(packets[1], "one", 3) == 3 && write(packets[1], "second", 6) == 6 && write(packets[1], out, 4096) == 4096 &&
	     write(packets[1], "last", 4) == 4);
	NEED(fcntl(large[1], F_SETPIPE_SZ, 1 << 17) == 1 << 17);
	NEED(write(large[1], out, sizeof out) == sizeof out);
	NEED(fcntl(empty[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(empty[0], F_SETPIPE_SZ, PAGE) == (int)PAGE);
	/* A whole page each: nothing is added to it. */
	NEED(pipe2(mixed, O_NONBLOCK) == 0 && write(mixed[1], out, PAGE) == (ssize_t)PAGE);
	NEED(fcntl(mixed[1], F_SETFL, O_DIRECT | O_NONBLOCK) == 0 && write(mixed[1], "packet", 6) == 6 && write(mixed[1], "other", 5) == 5);
	NEED(fcntl(mixed[1], F_SETFL, O_NONBLOCK) == 0 && write(mixed[1], "bytes", 5) == 5);
	int another = fcntl(plain[1], F_DUPFD, 30);
	NEED(another >= 30);
	int capacity = fcntl(plain[0], F_GETPIPE_SZ);
	ready();
	await_check();

	EXPECT_EQ("flags of the pipe's read end", fcntl(plain[0], F_GETFL), O_RDONLY);
	EXPECT_EQ("flags of the pipe's write end", fcntl(plain[1], F_GETFL), O_WRONLY);
	EXPECT_EQ("close-on-exec", fcntl(plain[0], F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("close-on-exec of the duplicate", fcntl(another, F_GETFD), 0);
	EXPECT_EQ("capacity", fcntl(plain[0], F_GETPIPE_SZ), capacity);
	EXPECT_EQ("capacity of the large pipe", fcntl(large[0], F_GETPIPE_SZ), 1 << 17);
	EXPECT_EQ("capacity of the small pipe", fcntl(empty[1], F_GETPIPE_SZ), PAGE);
	EXPECT_EQ("length read", read(plain[0], in, sizeof in), 40000 - 777);
	EXPECT(memcmp(in, out + 777, 40000 - 777) == 0, "the pipe's content changed");
	EXPECT_EQ("write by the duplicate", write(another, "more", 4), 4);
	EXPECT_EQ("length read of that", read(plain[0], in, sizeof in), 4);

	EXPECT_EQ("flags of the packet pipe", fcntl(packets[1], F_GETFL), O_WRONLY | O_DIRECT | O_NONBLOCK);
	EXPECT_EQ("first packet", read(packets[0], in, sizeof in), 3);
	EXPECT_EQ("second packet, in part", read(packets[0], in, 2), 2);
	EXPECT_EQ("third packet", read(packets[0], in, sizeof in), 4096);
	EXPECT(memcmp(in, out, 4096) == 0, "the third packet's content changed");
	EXPECT_EQ("fourth packet", read(packets[0], in, sizeof in), 4);
	EXPECT(read(packets[0], in, 1) == -1 && errno == EAGAIN, "the packet pipe should be empty and not block");
	EXPECT(write(packets[1], "a", 1) == 1 && write(packets[1], "b", 1) == 1, "write: %s", strerror(errno));
	EXPECT_EQ("a packet written after", read(packets[0], in, sizeof in), 1);

	EXPECT_EQ("bytes before a packet, in part", read(mixed[0], in, PAGE - 1), PAGE - 1);
	EXPECT_EQ("the rest, and the packet", read(mixed[0], in, sizeof in), 1 + 6);
	EXPECT(memcmp(in + 1, "packet", 6) == 0, "the packet behind bytes changed");
	EXPECT_EQ("a packet, in part", read(mixed[0], in, 2), 2);
	EXPECT_EQ("bytes behind it, in part", read(mixed[0], in, 2), 2);
	EXPECT(write(mixed[1], "more", 4) == 4, "write: %s", strerror(errno));
	EXPECT_EQ("the rest of the bytes", read(mixed[0], in, sizeof in), 3 + 4);
	EXPECT(memcmp(in, "tesmore", 7) == 0, "the bytes behind a packet changed");

	EXPECT_OK(fcntl(large[1], F_SETFL, O_NONBLOCK));
	EXPECT(write(large[1], "x", 1) == -1 && errno == EAGAIN, "the full pipe is not full any more");
	for (size_t at = 0; at < sizeof in;) {
		ssize_t part = read(large[0], in + at, sizeof in - at);

		EXPECT(part > 0, "read: %s", strerror(errno));
		at += part;
	}
	expect_filled("the large pipe's content", in, sizeof in, 1);
	EXPECT(read(empty[0], in, 1) == -1 && errno == EAGAIN, "the empty pipe is not empty any more");
	passed();
}
