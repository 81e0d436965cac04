/* /dev/null, zero, full, random, urandom: each is still the one it was, with its flags; those of one that change all the time, too. */
#include "subject.h"
#include <sys/sysmacros.h>

static volatile int stop, wrong;

static void *flip(void *fd)
{
	for (int flags = 0; !stop; flags ^= O_NONBLOCK) {
		fcntl(*(int *)fd, F_SETFL, flags);
		pause_ms(1);
		if ((fcntl(*(int *)fd, F_GETFL) & O_NONBLOCK) != flags)
			wrong = 1;
	}
	return NULL;
}

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
	int flipped = open("/dev/null", O_RDONLY);
	NEED(flipped >= 0);
	pthread_t thread = start_thread(flip, &flipped);
	ready();
	await_check();
	stop = 1;
	pthread_join(thread, NULL);
	EXPECT_EQ("flags that had been set were others", wrong, 0);

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
