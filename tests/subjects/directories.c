/* Working directory and umask. */
#include "subject.h"

int main(int argc, char **argv)
{
	char before[PATH_MAX], after[PATH_MAX];
	struct stat status;

	begin(argc, argv);
	NEED(mkdir(path_of("a b"), 0755) == 0 && chdir(path_of("a b")) == 0 && mkdir("c\n", 0755) == 0 && chdir("c\n") == 0);
	NEED(getcwd(before, sizeof before) != NULL);
	umask(0137);
	ready();
	await_check();

	EXPECT(getcwd(after, sizeof after) != NULL, "getcwd: %s", strerror(errno));
	EXPECT(strcmp(before, after) == 0, "working directory: expected %s, got %s", before, after);
	int fd = open("relative", O_CREAT | O_WRONLY, 0777);
	EXPECT(fd >= 0 && fstat(fd, &status) == 0, "open: %s", strerror(errno));
	EXPECT_EQ("mode of a new file", status.st_mode & 07777, 0640);
	EXPECT(access(path_of("a b/c\n/relative"), F_OK) == 0, "the file is not where the working directory was");
	passed();
}
