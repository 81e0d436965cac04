/* Descriptor numbers: high ones, gaps, none where standard input was; a new one takes the lowest free. */
#include "subject.h"
#include <dirent.h>
#include <sys/resource.h>

static int listed[8192];

static int list(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	int count = 0;

	EXPECT(directory != NULL, "open /proc/self/fd: %s", strerror(errno));
	memset(listed, 0, sizeof listed);
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory) && atoi(entry->d_name) < 8192)
			listed[atoi(entry->d_name)] = 1, count++;
	closedir(directory);
	return count;
}

int main(int argc, char **argv)
{
	static const int numbers[] = { 1, 7, 63, 64, 65, 255, 256, 1000, 1023, 4000 };
	struct rlimit limit;

	begin(argc, argv);
	NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
	NEED(limit.rlim_cur > 4000 && setrlimit(RLIMIT_NOFILE, &limit) == 0);
	int fd = make_file("data", 1, 1);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		NEED(dup2(fd, numbers[i]) == numbers[i]);
	close(fd);
	close(0);
	close(2);
	NEED(list() == 10);
	ready();
	await_check();

	EXPECT_EQ("descriptors", list(), 10);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		EXPECT(listed[numbers[i]], "descriptor %d is gone", numbers[i]);
	EXPECT_EQ("a new descriptor", open("/dev/null", O_RDONLY), 0);
	EXPECT_EQ("a new descriptor", open("/dev/null", O_RDONLY), 2);
	EXPECT_EQ("a new descriptor", open("/dev/null", O_RDONLY), 3);
	EXPECT_EQ("seek in one", lseek(4000, 11, SEEK_SET), 11);
	EXPECT_EQ("offset of another", lseek(63, 0, SEEK_CUR), 11);
	passed();
}
