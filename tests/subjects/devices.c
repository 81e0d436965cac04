/* /dev/null, zero, full, random, urandom: each is still the one it was, with its flags. */
#include "subject.h"
#include <sys/sysmacros.h>

int main(int argc, char **argv)
{
	static const struct { const char *path; int flags; } devices[] = {
		{ "/dev/null", O_RDWR | O_APPEND }, { "/dev/zero", O_RDONLY | O_CLOEXEC }, { "/dev/full", O_WRONLY },
		{ "/dev/random", O_RDONLY | O_NONBLOCK }, { "/dev/urandom", O_RDWR },
	};
	int fds[5], flags[5], own[5];
	struct stat before[5], after;
	char bytes[64], more[64];

	begin(argc, argv);
	for (int i = 0; i < 5; i++) {
		fds[i] = open(devices[i].path, devices[i].flags);
		NEED(fds[i] >= 0 && fstat(fds[i], &before[i]) == 0);
		flags[i] = fcntl(fds[i], F_GETFL), own[i] = fcntl(fds[i], F_GETFD);
	}
	ready();
	await_check();

	for (int i = 0; i < 5; i++) {
		EXPECT_OK(fstat(fds[i], &after));
		EXPECT(S_ISCHR(after.st_mode), "%s is no device any more", devices[i].path);
		EXPECT_EQ(devices[i].path, after.st_rdev, before[i].st_rdev);
		EXPECT_EQ(devices[i].path, fcntl(fds[i], F_GETFL), flags[i]);
		EXPECT_EQ(devices[i].path, fcntl(fds[i], F_GETFD), own[i]);
	}
	EXPECT_EQ("read of /dev/null", read(fds[0], bytes, 64), 0);
	EXPECT_EQ("write to /dev/null", write(fds[0], bytes, 64), 64);
	memset(bytes, 1, sizeof bytes);
	EXPECT_EQ("read of /dev/zero", read(fds[1], bytes, 64), 64);
	expect_zero("what /dev/zero gave", bytes, 64);
	EXPECT(write(fds[2], bytes, 1) == -1 && errno == ENOSPC, "write to /dev/full: %s", strerror(errno));
	EXPECT_EQ("read of /dev/random", read(fds[3], bytes, 64), 64);
	EXPECT_EQ("read of /dev/urandom", read(fds[4], more, 64), 64);
	EXPECT(memcmp(bytes, more, 64) != 0, "the random devices give the same bytes");
	passed();
}
