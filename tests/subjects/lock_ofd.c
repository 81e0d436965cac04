/* Locks of open file descriptions (F_OFD_SETLK) beside POSIX locks of the process: ranges, for reading and for writing. */
#include "subject.h"

static int lock(int fd, int command, int type, off_t start, off_t length)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };

	return fcntl(fd, command, &lock);
}

/* Whether a description of its own could not have it. */
static int is_locked(int type, off_t start, off_t length)
{
	int fd = open(path_of("file"), O_RDWR | O_CLOEXEC);

	EXPECT(fd >= 0, "open: %s", strerror(errno));
	/* Not closed: that would drop the POSIX locks. */
	int result = lock(fd, F_OFD_SETLK, type, start, length);
	EXPECT(result == 0 || errno == EAGAIN, "lock: %s", strerror(errno));
	EXPECT_OK(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0));
	return result != 0;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int one = make_file("file", 2, 1), other = open(path_of("file"), O_RDWR);
	NEED(other >= 0);
	NEED(lock(one, F_OFD_SETLK, F_WRLCK, 10, 20) == 0 && lock(one, F_OFD_SETLK, F_RDLCK, 100, 0) == 0);
	NEED(lock(other, F_OFD_SETLK, F_RDLCK, 200, 1) == 0 && lock(other, F_SETLK, F_WRLCK, 50, 5) == 0);
	ready();
	await_check();

	EXPECT(!is_locked(F_WRLCK, 0, 10), "before the first");
	EXPECT(is_locked(F_RDLCK, 10, 1) && is_locked(F_RDLCK, 29, 1), "the lock for writing");
	EXPECT(!is_locked(F_WRLCK, 30, 20) && !is_locked(F_WRLCK, 55, 45), "between the locks");
	EXPECT(is_locked(F_RDLCK, 50, 1) && is_locked(F_RDLCK, 54, 1), "the POSIX lock");
	EXPECT(is_locked(F_WRLCK, 100, 1) && is_locked(F_WRLCK, 1LL << 40, 1), "the lock for reading, to the end of the file");
	EXPECT(!is_locked(F_RDLCK, 100, 0), "others can read");
	EXPECT_OK(lock(one, F_OFD_SETLK, F_UNLCK, 0, 0));
	EXPECT(!is_locked(F_WRLCK, 10, 20) && !is_locked(F_WRLCK, 201, 0), "the locks of one are still there");
	EXPECT(is_locked(F_WRLCK, 200, 1), "the lock of the other is gone");
	passed();
}
