/*
 * FIFOs with both ends open: content in odd pieces and in packets, capacity, flags, several descriptions of each end, one for both ends;
 * one that has been renamed since, and one that has been deleted.
 */
#include "subject.h"
#include <sys/ioctl.h>

static char out[1 << 17], in[1 << 17];

static int open_fifo(const char *name, int flags)
{
	int fd = open(path_of(name), flags);

	NEED(fd >= 0);
	return fd;
}

static void make_fifo(const char *name)
{
	NEED(mkfifo(path_of(name), 0640) == 0);
}

static int waiting(int fd)
{
	int bytes = -1;

	EXPECT_OK(ioctl(fd, FIONREAD, &bytes));
	return bytes;
}

static void expect_type(const char *name, int fd)
{
	struct stat open, named;

	EXPECT(fstat(fd, &open) == 0 && stat(path_of(name), &named) == 0, "stat %s: %s", name, strerror(errno));
	EXPECT(S_ISFIFO(open.st_mode), "%s is no FIFO any more", name);
	EXPECT(open.st_dev == named.st_dev && open.st_ino == named.st_ino, "%s is another FIFO than the one of that name", name);
}

int main(int argc, char **argv)
{
	char old[PATH_MAX];
	struct stat deleted_before, deleted_after;

	begin(argc, argv);
	fill(out, sizeof out, 1);
	make_fifo("plain");
	int both = open_fifo("plain", O_RDWR | O_NONBLOCK | O_APPEND), reader = open_fifo("plain", O_RDONLY | O_CLOEXEC);
	int second = open_fifo("plain", O_RDONLY | O_NONBLOCK | O_NOFOLLOW), writer = open_fifo("plain", O_WRONLY | O_SYNC);
	int duplicate = fcntl(writer, F_DUPFD, 50), place = open_fifo("plain", O_PATH);
	for (int at = 0; at < 30000; at += 1000)
		NEED(write(writer, out + at, 1000) == 1000);
	NEED(read(reader, in, 777) == 777);

	make_fifo("packets");
	int to_read = open_fifo("packets", O_RDONLY | O_NONBLOCK), packets = open_fifo("packets", O_WRONLY);
	NEED(fcntl(packets, F_SETFL, O_DIRECT) == 0 && fcntl(packets, F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	NEED(write(packets, "one", 3) == 3 && write(packets, "second", 6) == 6 && write(packets, out, 4096) == 4096);

	make_fifo("before");
	int renamed = open_fifo("before", O_RDWR);
	snprintf(old, sizeof old, "%s", path_of("before"));
	NEED(rename(old, path_of("renamed")) == 0 && write(renamed, "renamed", 7) == 7);

	make_fifo("deleted");
	int deleted = open_fifo("deleted", O_RDWR), deleted_reader = open_fifo("deleted", O_RDONLY);
	NEED(chown(path_of("deleted"), 65534, 65533) == 0 && chmod(path_of("deleted"), 0604) == 0);
	NEED(write(deleted, "deleted", 7) == 7 && unlink(path_of("deleted")) == 0 && fstat(deleted, &deleted_before) == 0);
	int flags[] = { fcntl(both, F_GETFL), fcntl(reader, F_GETFL), fcntl(second, F_GETFL), fcntl(writer, F_GETFL) };
	ready();
	await_check();

	expect_type("plain", both);
	expect_type("plain", writer);
	expect_type("renamed", renamed);
	int now[] = { fcntl(both, F_GETFL), fcntl(reader, F_GETFL), fcntl(second, F_GETFL), fcntl(writer, F_GETFL) };
	for (int i = 0; i < 4; i++)
		EXPECT_EQ("flags", now[i], flags[i]);
	EXPECT_EQ("flags of the place", fcntl(place, F_GETFL) & O_PATH, O_PATH);
	EXPECT_EQ("close-on-exec", fcntl(reader, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("close-on-exec of another", fcntl(second, F_GETFD), 0);
	EXPECT_EQ("bytes in it", waiting(both), 30000 - 777);
	EXPECT_EQ("length read", read(reader, in, 20000), 20000);
	EXPECT_EQ("length read by the second", read(second, in + 20000, sizeof in - 20000), 10000 - 777);
	EXPECT(memcmp(in, out + 777, 30000 - 777) == 0, "the content changed");
	EXPECT(read(second, in, 1) == -1 && errno == EAGAIN, "it is not empty: %s", strerror(errno));
	EXPECT_EQ("write by the duplicate", write(duplicate, "more", 4), 4);
	EXPECT_EQ("read by the one for both", read(both, in, sizeof in), 4);

	EXPECT_EQ("flags of the one with packets", fcntl(packets, F_GETFL) & (O_ACCMODE | O_DIRECT | O_NONBLOCK), O_WRONLY | O_DIRECT);
	EXPECT_EQ("capacity", fcntl(to_read, F_GETPIPE_SZ), 1 << 18);
	EXPECT_EQ("first packet", read(to_read, in, sizeof in), 3);
	EXPECT_EQ("second packet, in part", read(to_read, in, 2), 2);
	EXPECT_EQ("third packet", read(to_read, in, sizeof in), 4096);
	EXPECT(memcmp(in, out, 4096) == 0, "the third packet's content changed");
	EXPECT(read(to_read, in, 1) == -1 && errno == EAGAIN, "there is another packet");
	close(packets);
	EXPECT_EQ("read when the writer is gone", read(to_read, in, 1), 0);

	EXPECT_EQ("read of the renamed one", read(renamed, in, sizeof in), 7);
	EXPECT_EQ("read of the deleted one", read(deleted_reader, in, sizeof in), 7);
	EXPECT(memcmp(in, "deleted", 7) == 0, "the deleted one's content changed");
	EXPECT_OK(fstat(deleted_reader, &deleted_after));
	EXPECT_EQ("mode", deleted_after.st_mode, deleted_before.st_mode);
	EXPECT_EQ("user", deleted_after.st_uid, 65534);
	EXPECT_EQ("group", deleted_after.st_gid, 65533);
	EXPECT_EQ("names", deleted_after.st_nlink, 0);
	EXPECT(access(path_of("deleted"), F_OK) == -1 && errno == ENOENT, "the deleted one has its name again");
	/* By its name it is still the same. */
	int again = open(path_of("plain"), O_WRONLY | O_NONBLOCK);
	EXPECT(again >= 0 && write(again, "name", 4) == 4, "write by the name: %s", strerror(errno));
	EXPECT_EQ("read of that", read(reader, in, sizeof in), 4);
	passed();
}
