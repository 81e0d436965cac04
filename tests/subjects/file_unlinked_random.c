/* A deleted file and a memfd that are written, made longer and shorter, and punched all the time, at random: what they hold is known. */
#include "subject.h"
#include <linux/falloc.h>

#define LONGEST (256 * PAGE)

static struct {
	int fd;
	size_t size;
	unsigned char *model;
} files[2];
static volatile int stop;
static uint64_t chance = 0x123456789;

static void change(int which)
{
	int fd = files[which].fd;
	unsigned char *model = files[which].model;
	size_t at = any(&chance, LONGEST - 1), length = 1 + any(&chance, LONGEST - at < 20000 ? LONGEST - at : 20000);

	switch (any(&chance, 8)) {
	case 0:
		NEED(ftruncate(fd, at) == 0);
		memset(model + at, 0, LONGEST - at);
		files[which].size = at;
		break;
	case 1:
		NEED(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length) == 0);
		memset(model + at, 0, length);
		break;
	default:
		for (size_t i = 0; i < length; i++)
			model[at + i] = (unsigned char)(1 + any(&chance, 255));
		NEED(pwrite(fd, model + at, length, at) == (ssize_t)length);
		if (files[which].size < at + length)
			files[which].size = at + length;
	}
}

static void *change_on(void *unused)
{
	(void)unused;
	while (!stop) {
		for (int n = any(&chance, 5); n >= 0; n--)
			change(any(&chance, 2));
		/* Sometimes nothing happens for longer than a file's time stamp is coarse. */
		pause_ms(any(&chance, 10) == 0 ? 40 : 1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	files[0].fd = open(path_of("gone"), O_CREAT | O_RDWR, 0600);
	NEED(files[0].fd >= 0 && unlink(path_of("gone")) == 0);
	files[1].fd = memfd_create("random", 0);
	NEED(files[1].fd >= 0);
	for (int i = 0; i < 2; i++)
		files[i].model = map_anonymous(LONGEST);
	pthread_t thread = start_thread(change_on, NULL);
	ready();
	await_check();
	stop = 1;
	pthread_join(thread, NULL);
	for (int i = 0; i < 2; i++) {
		static unsigned char content[LONGEST];
		struct stat status;

		EXPECT_OK(fstat(files[i].fd, &status));
		EXPECT_EQ("size", status.st_size, files[i].size);
		EXPECT(pread(files[i].fd, content, LONGEST, 0) == (ssize_t)files[i].size, "it cannot be read whole");
		for (size_t at = 0; at < files[i].size; at++)
			EXPECT(content[at] == files[i].model[at], "file %d, byte %zu of %zu: %d instead of %d", i, at, files[i].size,
			       content[at], files[i].model[at]);
	}
	passed();
}
