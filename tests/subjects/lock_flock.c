/* flock(2): exclusive and shared locks of descriptions, one of them with two descriptors, on files with and without a name. */
#include "subject.h"
#include <sys/file.h>

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags, 0600);

	NEED(fd >= 0);
	return fd;
}

static int is_locked(const char *path, int operation)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	EXPECT(fd >= 0, "open %s: %s", path, strerror(errno));
	int result = flock(fd, operation | LOCK_NB);
	EXPECT(result == 0 || errno == EWOULDBLOCK, "flock %s: %s", path, strerror(errno));
	close(fd);
	return result != 0;
}

int main(int argc, char **argv)
{
	char unnamed[64];

	begin(argc, argv);
	int exclusive = must_open(path_of("exclusive"), O_CREAT | O_RDWR), again = dup(exclusive);
	int one = must_open(path_of("shared"), O_CREAT | O_RDWR), other = must_open(path_of("shared"), O_RDONLY);
	int gone = must_open(path_of("gone"), O_CREAT | O_RDWR), unlocked = must_open(path_of("unlocked"), O_CREAT | O_RDWR);
	NEED(again >= 0 && unlink(path_of("gone")) == 0);
	NEED(flock(exclusive, LOCK_EX) == 0 && flock(one, LOCK_SH) == 0 && flock(other, LOCK_SH) == 0);
	NEED(flock(gone, LOCK_EX) == 0 && flock(unlocked, LOCK_EX) == 0 && flock(unlocked, LOCK_UN) == 0);
	ready();
	await_check();

	EXPECT(is_locked(path_of("exclusive"), LOCK_SH), "the exclusive lock is gone");
	EXPECT_OK(flock(again, LOCK_UN));
	EXPECT(!is_locked(path_of("exclusive"), LOCK_EX), "it cannot be unlocked by its other descriptor");
	EXPECT(is_locked(path_of("shared"), LOCK_EX), "the shared locks are gone");
	EXPECT(!is_locked(path_of("shared"), LOCK_SH), "the shared locks are exclusive");
	EXPECT_OK(close(one));
	EXPECT(is_locked(path_of("shared"), LOCK_EX), "one of the shared locks was gone");
	EXPECT_OK(close(other));
	EXPECT(!is_locked(path_of("shared"), LOCK_EX), "somebody else has the shared lock");
	snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", gone);
	EXPECT(is_locked(unnamed, LOCK_SH), "the lock on a deleted file is gone");
	EXPECT(!is_locked(path_of("unlocked"), LOCK_EX), "what was not locked is locked");
	passed();
}
