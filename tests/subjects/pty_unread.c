/*
 * Pseudo terminals with content that has not been read: bytes of any value, lines that were ended by a newline, by an end of file and by a
 * character of their own, one that has been read in part, the beginning of one that can still be edited; for the master, echoed, in packets,
 * and of a slave that has been closed.
 */
#include "pty.h"

static char out[3500], in[5000];

static void set(int fd, tcflag_t local, tcflag_t output)
{
	struct termios settings;

	NEED(tcgetattr(fd, &settings) == 0);
	settings.c_lflag = local;
	settings.c_oflag = output;
	settings.c_iflag = 0;
	settings.c_cc[VEOL] = ';';
	settings.c_cc[VMIN] = 1;
	settings.c_cc[VTIME] = 0;
	NEED(tcsetattr(fd, TCSANOW, &settings) == 0);
}

static void put(int fd, const void *bytes, size_t length)
{
	NEED(write(fd, bytes, length) == (ssize_t)length);
}

/* What was written to the other end has come. */
static void settle(int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLIN };

	NEED(poll(&asked, 1, 0) >= 0);
}

static void expect_read(const char *what, int fd, const void *expected, size_t length)
{
	ssize_t got = read(fd, in, sizeof in);

	EXPECT(got == (ssize_t)length && memcmp(in, expected, length) == 0, "%s: expected %zu bytes, got %zd (%s): %.*s", what, length, got,
	       got < 0 ? strerror(errno) : "", got < 0 ? 0 : (int)got, in);
}

int main(int argc, char **argv)
{
	int one = 1;

	begin(argc, argv);
	if (access("/sys/kernel/btf/vmlinux", F_OK) != 0)
		skipped("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF), and without the probes such a terminal stays");
	int raw = master_of(O_NONBLOCK), raw_slave = slave_of(raw, O_RDWR | O_NONBLOCK);
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = (char)(i * 7 + i / 256);
	set(raw_slave, 0, 0);
	put(raw, out, sizeof out);
	settle(raw_slave);
	NEED(read(raw_slave, in, 100) == 100);
	put(raw, "wrapped around", 14);
	put(raw_slave, out, 2000);

	int lines = master_of(O_NONBLOCK), lines_slave = slave_of(lines, O_RDWR | O_NONBLOCK);
	set(lines_slave, ICANON | ECHO | ECHOE | ECHOK, OPOST | ONLCR);
	put(lines, "part of it\n", 11);
	settle(lines_slave);
	NEED(read(lines_slave, in, 5) == 5);
	put(lines, "edited\177\177ing\n", 12);
	put(lines, "end of file\004", 12);
	put(lines, "\004", 1);
	put(lines, "its own;\n", 9);
	put(lines, "begun", 5);
	settle(lines_slave);

	int packets = master_of(O_NONBLOCK), packets_slave = slave_of(packets, O_RDWR);
	set(packets_slave, 0, 0);
	NEED(ioctl(packets, TIOCPKT, &one) == 0);
	put(packets_slave, "packet", 6);

	int left = master_of(0), left_slave = slave_of(left, O_RDWR);
	put(left_slave, "last words\n", 11);
	NEED(close(left_slave) == 0);
	settle(left);
	ready();
	await_check();

	EXPECT_EQ("length of the raw bytes", read(raw_slave, in, sizeof in), (long long)sizeof out - 100 + 14);
	EXPECT(memcmp(in, out + 100, sizeof out - 100) == 0, "the raw bytes changed");
	EXPECT(memcmp(in + sizeof out - 100, "wrapped around", 14) == 0, "the last raw bytes changed");
	EXPECT(read(raw_slave, in, 1) == -1 && errno == EAGAIN, "there is more");
	expect_read("for the master", raw, out, 2000);

	expect_read("the rest of a line", lines_slave, "of it\n", 6);
	expect_read("a line", lines_slave, "editing\n", 8);
	expect_read("a line without a newline", lines_slave, "end of file", 11);
	expect_read("the end of the file", lines_slave, "", 0);
	expect_read("a line with an end of its own", lines_slave, "its own;", 8);
	expect_read("an empty line", lines_slave, "\n", 1);
	EXPECT(read(lines_slave, in, 1) == -1 && errno == EAGAIN, "the beginning of a line is one");
	EXPECT_EQ("written", write(lines, "\177\177ins\n", 6), 6);
	settle(lines_slave);
	expect_read("the line that was begun", lines_slave, "begins\n", 7);
	ssize_t echoed = read(lines, in, sizeof in);
	EXPECT(echoed > 20 && memcmp(in, "part of it\r\nedited\b \b\b \bing\r\nend of file", 39) == 0, "echoed: %zd bytes, %.*s", echoed, (int)echoed, in);

	expect_read("in packets", packets, "\0packet", 7);
	expect_read("of the one that was left", left, "last words\r\n", 12);
	EXPECT(read(left, in, 1) == -1 && errno == EIO, "the one that was left: %s", strerror(errno));
	passed();
}
