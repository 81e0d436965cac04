/* A file made by O_TMPFILE: it has no name, and can still be given one; one that is read and written past the page cache. */
#include "subject.h"

int main(int argc, char **argv)
{
	char text[64], proc[64];
	struct stat status;
	void *aligned;

	begin(argc, argv);
	int fd = open(path_of("."), O_TMPFILE | O_RDWR | O_APPEND, 0644);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		skipped("this file system has no O_TMPFILE");
	NEED(fd >= 0 && write(fd, "without a name", 14) == 14);
	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	int again = open(proc, O_RDONLY);
	NEED(again >= 0);
	int direct = open(path_of("."), O_TMPFILE | O_RDWR | O_DIRECT, 0600);
	if (direct < 0 && errno == EINVAL)
		skipped("this file system has no O_DIRECT");
	NEED(direct >= 0 && posix_memalign(&aligned, PAGE, 2 * PAGE) == 0);
	fill(aligned, 2 * PAGE, 7);
	NEED(write(direct, aligned, 2 * PAGE) == 2 * PAGE);
	ready();
	await_check();

	EXPECT(pread(again, text, sizeof text, 0) == 14 && memcmp(text, "without a name", 14) == 0, "its content is wrong");
	EXPECT_OK(linkat(AT_FDCWD, proc, AT_FDCWD, path_of("named"), AT_SYMLINK_FOLLOW));
	EXPECT(write(fd, "!", 1) == 1, "append: %s", strerror(errno));
	EXPECT_OK(stat(path_of("named"), &status));
	EXPECT_EQ("size by its name", status.st_size, 15);
	EXPECT_EQ("mode", status.st_mode, S_IFREG | 0644);
	EXPECT_EQ("links", status.st_nlink, 1);
	memset(aligned, 0, 2 * PAGE);
	EXPECT(pread(direct, aligned, 2 * PAGE, 0) == 2 * PAGE, "read past the page cache: %s", strerror(errno));
	expect_filled("past the page cache", aligned, 2 * PAGE, 7);
	EXPECT(fcntl(direct, F_GETFL) & O_DIRECT, "O_DIRECT is gone");
	passed();
}
