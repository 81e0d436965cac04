/* A directory being read goes on with the next entry; a descriptor of a directory serves openat; O_PATH descriptors. */
#include "subject.h"
#include <dirent.h>

#define COUNT 300

static int seen[COUNT];

static void note(struct dirent *entry)
{
	int i;

	if (sscanf(entry->d_name, "entry %d", &i) == 1)
		seen[i]++;
}

int main(int argc, char **argv)
{
	struct dirent *entry;
	struct stat before, after;

	begin(argc, argv);
	NEED(mkdir(path_of("many"), 0755) == 0);
	int fd = open(path_of("many"), O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < COUNT; i++) {
		char name[32];

		snprintf(name, sizeof name, "entry %d", i);
		int file = openat(fd, name, O_CREAT | O_WRONLY, 0644);
		NEED(file >= 0);
		close(file);
	}
	/* By getdents64 itself, a few at a time: readdir(3) would read them all into memory. */
	char buffer[1024];
	long length = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
	NEED(length > 0);
	for (long at = 0; at < length; at += ((struct dirent *)(buffer + at))->d_reclen)
		note((struct dirent *)(buffer + at));
	int path_only = open(path_of("many/entry 7"), O_PATH | O_CLOEXEC);
	int directory_path = open(path_of("many"), O_PATH | O_DIRECTORY);
	NEED(path_only >= 0 && directory_path >= 0 && fstat(path_only, &before) == 0);
	int path_flags = fcntl(path_only, F_GETFL);
	ready();
	await_check();

	while ((length = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
		for (long at = 0; at < length; at += entry->d_reclen)
			note(entry = (struct dirent *)(buffer + at));
	EXPECT_EQ("getdents64 at the end", length, 0);
	for (int i = 0; i < COUNT; i++)
		EXPECT(seen[i] == 1, "entry %d came %d times", i, seen[i]);
	EXPECT_EQ("flags of the O_PATH descriptor", fcntl(path_only, F_GETFL), path_flags);
	EXPECT_OK(fstat(path_only, &after));
	EXPECT_EQ("inode of the O_PATH descriptor", after.st_ino, before.st_ino);
	EXPECT(read(path_only, buffer, 1) == -1 && errno == EBADF, "an O_PATH descriptor can read");
	EXPECT_OK(openat(directory_path, "entry 9", O_RDONLY));
	EXPECT_OK(openat(fd, "entry 9", O_RDONLY));
	passed();
}
