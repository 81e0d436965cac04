/* A root directory of its own (chroot), with the working directory in it; a descriptor from outside stays outside. */
#include "subject.h"

int main(int argc, char **argv)
{
	char text[PATH_MAX];

	begin(argc, argv);
	if (geteuid() != 0)
		skipped("chroot takes root");
	NEED(mkdir(path_of("in"), 0755) == 0 && mkdir(path_of("in/deep"), 0755) == 0);
	int outside = open(subject_dir, O_RDONLY | O_DIRECTORY);
	NEED(outside >= 0 && chroot(path_of("in")) == 0 && chdir("/deep") == 0);
	int inside = open("/file", O_CREAT | O_RDWR, 0644);
	NEED(inside >= 0 && write(inside, "inside", 6) == 6);
	/* From here on the subject's own directory is reached by the descriptor alone. */
	snprintf(text, sizeof text, "%d\n", (int)getpid());
	int fd = openat(outside, "ready.new", O_CREAT | O_WRONLY, 0644);
	NEED(fd >= 0 && write(fd, text, strlen(text)) > 0 && close(fd) == 0 && renameat(outside, "ready.new", outside, "ready") == 0);
	while (faccessat(outside, "check", F_OK, 0) != 0)
		pause_ms(1);

	const char *wrong = NULL;
	struct stat root, parent;
	if (getcwd(text, sizeof text) == NULL || strcmp(text, "/deep") != 0)
		wrong = "FAILED: the working directory is not /deep\n";
	else if (stat("/", &root) != 0 || stat("/..", &parent) != 0 || root.st_ino != parent.st_ino)
		wrong = "FAILED: one can get out of the root\n";
	else if (access("/file", F_OK) != 0 || access("../file", F_OK) != 0 || access("/proc", F_OK) == 0)
		wrong = "FAILED: the root is another one\n";
	else if (lseek(inside, 0, SEEK_CUR) != 6 || pread(inside, text, 6, 0) != 6 || memcmp(text, "inside", 6) != 0)
		wrong = "FAILED: the file inside changed\n";
	fd = openat(outside, "result.new", O_CREAT | O_WRONLY, 0644);
	if (fd < 0 || dprintf(fd, "%s", wrong ? wrong : "ok\n") < 0 || renameat(outside, "result.new", outside, "result") != 0)
		return 3;
	return wrong != NULL;
}
