/* Directories that have been deleted: with owner and permissions, and nothing can be made in them. */
#include "subject.h"
#include <dirent.h>

int main(int argc, char **argv)
{
	struct stat status;

	begin(argc, argv);
	NEED(mkdir(path_of("gone"), 0700) == 0 && mkdir(path_of("again"), 0700) == 0);
	int fd = open(path_of("gone"), O_RDONLY | O_DIRECTORY), path = open(path_of("again"), O_PATH | O_CLOEXEC);
	NEED(fd >= 0 && path >= 0 && fchown(fd, 12, 34) == 0 && fchmod(fd, 03751) == 0);
	NEED(rmdir(path_of("gone")) == 0 && rmdir(path_of("again")) == 0);
	ready();
	await_check();
	EXPECT_OK(fstat(fd, &status));
	EXPECT_EQ("mode", status.st_mode, S_IFDIR | 03751);
	EXPECT_EQ("user", status.st_uid, 12);
	EXPECT_EQ("group", status.st_gid, 34);
	EXPECT_EQ("links", status.st_nlink, 0);
	EXPECT(openat(fd, "file", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOENT, "a file can be made in it");
	EXPECT(access(path_of("gone"), F_OK) == -1, "it has a name");
	DIR *directory = fdopendir(fd);
	EXPECT(directory && !readdir(directory), "there is something in it");
	EXPECT_OK(fstat(path, &status));
	EXPECT_EQ("links of the other", status.st_nlink, 0);
	passed();
}
