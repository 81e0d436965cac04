/*
 * Deleted files: open by several descriptions, also mapped, with holes; permissions, owner and times; written all the time through a
 * descriptor and through a mapping.
 */
#include "subject.h"
#include <sys/vfs.h>

#define PAGES 64UL
#define END (PAGES * PAGE - 1000)

static int running, again;
static char *mapped;
static volatile uint64_t written;
static volatile int stop;

static int make_unlinked(const char *name, uint64_t seed)
{
	int fd = open(path_of(name), O_CREAT | O_RDWR | O_EXCL, 0640);
	char page[PAGE];

	NEED(fd >= 0 && ftruncate(fd, END) == 0);
	/* Every third page stays a hole. */
	for (size_t i = 0; i < PAGES; i++) {
		fill(page, PAGE, seed + i);
		if (i % 3)
			NEED(pwrite(fd, page, i == PAGES - 1 ? PAGE - 1000 : PAGE, i * PAGE) > 0);
	}
	return fd;
}

static void expect_page(const char *what, int fd, size_t i, uint64_t seed)
{
	char page[PAGE];
	size_t length = i == PAGES - 1 ? PAGE - 1000 : PAGE;

	EXPECT(pread(fd, page, PAGE, i * PAGE) == (ssize_t)length, "%s: page %zu cannot be read", what, i);
	seed ? expect_filled(what, page, length, seed) : expect_zero(what, page, length);
}

static void *write_on(void *unused)
{
	char page[PAGE];

	(void)unused;
	for (uint64_t n = 1; !stop; n++) {
		size_t i = n % PAGES;

		if (i == 0)
			continue;
		fill(page, PAGE, 1000000 + n);
		/* By turns through a descriptor and through the mapping. */
		if (n & 1)
			NEED(pwrite(running, page, i == PAGES - 1 ? PAGE - 1000 : PAGE, i * PAGE) > 0);
		else
			memcpy(mapped + i * PAGE, page, i == PAGES - 1 ? PAGE - 1000 : PAGE);
		written = n;
		if (n % 16 == 0)
			pause_ms(1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct timespec times[2] = { { 1000000000, 123456789 }, { 1111111111, 987654321 } };
	struct statfs before, after;
	struct stat status;
	char bytes[64];

	begin(argc, argv);
	int fd = make_unlinked("gone", 100);
	int appending = open(path_of("gone"), O_WRONLY | O_APPEND), reading = open(path_of("gone"), O_RDONLY | O_CLOEXEC);
	int shared = dup(reading);
	NEED(appending >= 0 && reading >= 0 && shared >= 0);
	NEED(fchown(fd, 1234, 4321) == 0 && fchmod(fd, 04751) == 0);
	NEED(unlink(path_of("gone")) == 0);
	NEED(lseek(fd, 77, SEEK_SET) == 77 && lseek(reading, 5 * PAGE, SEEK_SET) > 0);
	NEED(fstatfs(fd, &before) == 0);
	NEED(futimens(fd, times) == 0);

	running = make_unlinked("running", 5000);
	again = open(path_of("running"), O_RDWR);
	mapped = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, running, 0);
	NEED(again >= 0 && mapped != MAP_FAILED && unlink(path_of("running")) == 0);
	/* Its name is another file's by now. */
	NEED(close(open(path_of("running"), O_CREAT | O_WRONLY, 0600)) == 0);
	NEED(unlink(path_of("running")) == 0);
	/* One that is open for writing alone, empty but for a hole. */
	int hole = open(path_of("hole"), O_CREAT | O_WRONLY, 0600);
	NEED(hole >= 0 && ftruncate(hole, 3LL << 30) == 0 && unlink(path_of("hole")) == 0);
	pthread_t thread = start_thread(write_on, NULL);
	ready();
	await_check();
	stop = 1;
	pthread_join(thread, NULL);

	EXPECT_OK(fstat(fd, &status));
	EXPECT_EQ("links", status.st_nlink, 0);
	EXPECT_EQ("mode", status.st_mode, S_IFREG | 04751);
	EXPECT_EQ("user", status.st_uid, 1234);
	EXPECT_EQ("group", status.st_gid, 4321);
	EXPECT_EQ("size", status.st_size, END);
	EXPECT(memcmp(&status.st_atim, &times[0], sizeof times[0]) == 0, "read at %ld.%09ld", status.st_atim.tv_sec,
	       status.st_atim.tv_nsec);
	EXPECT(memcmp(&status.st_mtim, &times[1], sizeof times[1]) == 0, "written at %ld.%09ld", status.st_mtim.tv_sec,
	       status.st_mtim.tv_nsec);
	EXPECT(status.st_blocks * 512 < (long)((PAGES * 2 / 3 + 4) * PAGE), "%ld blocks: the holes are gone", (long)status.st_blocks);
	EXPECT_OK(fstatfs(fd, &after));
	EXPECT_EQ("file system", after.f_type, before.f_type);
	for (size_t i = 0; i < PAGES; i++)
		expect_page("gone", fd, i, i % 3 ? 100 + i : 0);
	EXPECT_EQ("offset", lseek(fd, 0, SEEK_CUR), 77);
	EXPECT_EQ("offset of the one that reads", lseek(shared, 0, SEEK_CUR), 5 * PAGE);
	EXPECT_OK(lseek(shared, 3, SEEK_SET));
	EXPECT_EQ("their offset is one", lseek(reading, 0, SEEK_CUR), 3);
	/* What is appended through one is there for the others. */
	EXPECT(write(appending, "behind", 6) == 6, "append: %s", strerror(errno));
	EXPECT(pread(reading, bytes, sizeof bytes, END) == 6 && memcmp(bytes, "behind", 6) == 0, "nothing was appended");
	EXPECT(write(reading, "x", 1) == -1 && errno == EBADF, "what was for reading alone can be written");

	for (uint64_t n = written; n > 1 && n + PAGES > written + 1; n--)
		if (n % PAGES)
			expect_page("running", again, n % PAGES, 1000000 + n);
	memcpy(mapped, "through the mapping", 20);
	EXPECT(pread(again, bytes, 20, 0) == 20 && memcmp(bytes, "through the mapping", 20) == 0, "mapping and file have come apart");
	EXPECT_OK(fstat(hole, &status));
	EXPECT_EQ("size of the hole", status.st_size, 3LL << 30);
	EXPECT_EQ("blocks of the hole", status.st_blocks, 0);
	passed();
}
