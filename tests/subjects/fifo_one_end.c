/*
 * FIFOs of which one end is open. One that reads waits for its first writer, or its writers are gone: poll(2) tells the two apart. One that
 * writes has nobody who reads, and what is in it is there for who comes.
 */
#include "subject.h"
#include <poll.h>

static volatile int broken;
static char in[64];

static void on_pipe(int signal)
{
	(void)signal;
	broken++;
}

static int open_fifo(const char *name, int flags)
{
	int fd;

	if (mkfifo(path_of(name), 0600) != 0)
		NEED(errno == EEXIST);
	fd = open(path_of(name), flags | O_NONBLOCK);
	NEED(fd >= 0);
	return fd;
}

static int polled(int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLIN | POLLOUT };

	EXPECT_OK(poll(&asked, 1, 0));
	return asked.revents;
}

static void expect_first_writer(const char *name, int reader)
{
	EXPECT_EQ(name, polled(reader), 0);
	EXPECT_EQ(name, read(reader, in, sizeof in), 0);
	int writer = open(path_of(name), O_WRONLY | O_NONBLOCK);
	EXPECT(writer >= 0, "%s: open for writing: %s", name, strerror(errno));
	EXPECT(read(reader, in, 1) == -1 && errno == EAGAIN, "%s: a read although somebody may write", name);
	close(writer);
	EXPECT_EQ(name, polled(reader), POLLHUP);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_pipe };

	begin(argc, argv);
	NEED(sigaction(SIGPIPE, &action, NULL) == 0);
	int waits = open_fifo("waits", O_RDONLY);

	int ended = open_fifo("ended", O_RDONLY), its_writer = open_fifo("ended", O_WRONLY);
	NEED(write(its_writer, "the end", 7) == 7 && close(its_writer) == 0);

	/* What is left when all its readers are gone but one that has not had a writer. */
	int left = open_fifo("left", O_RDONLY), left_writer = open_fifo("left", O_WRONLY);
	NEED(write(left_writer, "left", 4) == 4 && close(left_writer) == 0);
	int heir = open_fifo("left", O_RDONLY);
	NEED(close(left) == 0);

	/* The lower number waits. */
	int both_end = open_fifo("mixed", O_RDONLY), both_writer = open_fifo("mixed", O_WRONLY);
	NEED(close(both_writer) == 0);
	int both_wait = open_fifo("mixed", O_RDONLY);
	NEED(dup2(both_end, 40) == 40 && dup2(both_wait, both_end) == both_end && close(both_wait) == 0);
	both_wait = both_end, both_end = 40;

	int unread_reader = open_fifo("unread", O_RDONLY), unread = open_fifo("unread", O_WRONLY);
	NEED(write(unread, "unread", 6) == 6 && close(unread_reader) == 0);
	int nobody_reader = open_fifo("nobody", O_RDONLY), nobody = open_fifo("nobody", O_WRONLY);
	NEED(close(nobody_reader) == 0);
	NEED(fcntl(nobody, F_SETFL, 0) == 0);
	NEED(polled(waits) == 0 && polled(ended) == (POLLIN | POLLHUP) && polled(heir) == POLLIN);
	NEED(polled(both_end) == POLLHUP && polled(both_wait) == 0 && polled(nobody) == (POLLOUT | POLLERR));
	ready();
	await_check();

	expect_first_writer("waits", waits);
	EXPECT_EQ("poll of the one that ends", polled(ended), POLLIN | POLLHUP);
	EXPECT_EQ("what is left in it", read(ended, in, sizeof in), 7);
	EXPECT_EQ("its end", read(ended, in, sizeof in), 0);
	EXPECT_EQ("poll of what is left", polled(heir), POLLIN);
	EXPECT_EQ("what is left", read(heir, in, sizeof in), 4);
	expect_first_writer("left", heir);
	EXPECT_EQ("poll of the one of two that ended", polled(both_end), POLLHUP);
	expect_first_writer("mixed", both_wait);

	EXPECT_EQ("flags of the one that nobody reads", fcntl(nobody, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY);
	EXPECT_EQ("poll of the one that nobody reads", polled(nobody), POLLOUT | POLLERR);
	EXPECT(write(nobody, "x", 1) == -1 && errno == EPIPE, "write to what nobody reads: %s", strerror(errno));
	EXPECT_EQ("SIGPIPEs", broken, 1);
	int reader = open(path_of("unread"), O_RDONLY | O_NONBLOCK);
	EXPECT(reader >= 0, "open for reading: %s", strerror(errno));
	EXPECT_EQ("what waits for a reader", read(reader, in, sizeof in), 6);
	EXPECT(memcmp(in, "unread", 6) == 0, "what waits for a reader changed");
	passed();
}
