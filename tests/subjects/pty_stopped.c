/*
 * Terminals whose output is stopped: by ^S, by another character, by a call at the slave's side and at the master; with what was written
 * before, and with a thread that waits until it can write.
 */
#include "pty.h"

static volatile int wrote;

static void expect_stopped(const char *what, int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLOUT };

	EXPECT(poll(&asked, 1, 0) == 0, "%s: it can be written to", what);
	EXPECT(write(fd, "x", 1) == -1 && errno == EAGAIN, "%s: it has been written to", what);
}

static void expect_goes(const char *what, int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLOUT };

	EXPECT(poll(&asked, 1, 10000) == 1, "%s: it cannot be written to", what);
}

static void *wait_and_write(void *fd)
{
	wrote = write(*(int *)fd, "waited\n", 7) == 7 ? 1 : -1;
	return NULL;
}

static void stop(int master, char with, int slave)
{
	struct pollfd asked = { .fd = slave, .events = POLLOUT };

	NEED(write(master, &with, 1) == 1);
	while (poll(&asked, 1, 0) != 0)
		;
}

int main(int argc, char **argv)
{
	struct termios settings;
	char text[16];

	begin(argc, argv);
	if (access("/sys/kernel/btf/vmlinux", F_OK) != 0)
		skipped("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF), and without the probes such a terminal stays");
	int usual = master_of(0), usual_slave = slave_of(usual, O_RDWR | O_NONBLOCK), blocks = slave_of(usual, O_RDWR);
	NEED(write(usual_slave, "before\n", 7) == 7);
	stop(usual, 023, usual_slave);
	pthread_t thread = start_thread(wait_and_write, &blocks);

	int other = master_of(0), other_slave = slave_of(other, O_RDWR | O_NONBLOCK);
	NEED(tcgetattr(other_slave, &settings) == 0);
	settings.c_cc[VSTOP] = 'S';
	settings.c_cc[VSTART] = 'G';
	settings.c_lflag &= ~ECHO;
	NEED(tcsetattr(other_slave, TCSANOW, &settings) == 0);
	NEED(write(other, "line\n", 5) == 5);
	stop(other, 'S', other_slave);

	int called = master_of(0), called_slave = slave_of(called, O_RDWR | O_NONBLOCK);
	NEED(tcflow(called_slave, TCOOFF) == 0);
	int up = master_of(O_NONBLOCK), up_slave = slave_of(up, O_RDWR);
	NEED(tcflow(up, TCOOFF) == 0);
	int goes = master_of(O_NONBLOCK), goes_slave = slave_of(goes, O_RDWR | O_NONBLOCK);
	stop(goes, 023, goes_slave);
	NEED(write(goes, "\021", 1) == 1);
	ready();
	await_check();

	expect_stopped("by ^S", usual_slave);
	expect_stopped("by another character", other_slave);
	expect_stopped("by a call", called_slave);
	expect_stopped("at the master", up);
	EXPECT_EQ("written by the one that waits", wrote, 0);
	EXPECT_EQ("^Q", write(called, "\021", 1), 1);
	expect_through("the other way", called, "in\n", called_slave, "in\n");
	expect_stopped("by a call, which no character undoes", called_slave);
	EXPECT_EQ("^Q", write(usual, "\021", 1), 1);
	pthread_join(thread, NULL);
	EXPECT_EQ("written by the one that waits", wrote, 1);
	expect_goes("after ^Q", usual_slave);
	expect_through("after ^Q", usual_slave, "after\n", usual, "before\r\nwaited\r\nafter\r\n");
	EXPECT_EQ("another character", write(other, "G", 1), 1);
	EXPECT(read(other_slave, text, sizeof text) == 5 && memcmp(text, "line\n", 5) == 0, "what was written before");
	expect_goes("after it", other_slave);
	expect_through("after it", other_slave, "after\n", other, "after\r\n");
	EXPECT_OK(tcflow(called_slave, TCOON));
	EXPECT_OK(tcflow(up, TCOON));
	expect_through("after a call", up, "in\n", up_slave, "in\n");
	expect_goes("of one that goes on", goes_slave);
	expect_through("of one that goes on", goes_slave, "out\n", goes, "out\r\n");
	passed();
}
