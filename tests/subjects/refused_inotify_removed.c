/* What is watched has no name any more. */
#include "inotify.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = inotify_init1(0), file;
	make_empty("file");
	NEED(fd >= 0 && watch(fd, "file", IN_OPEN) == 1);
	file = open(path_of("file"), O_RDONLY);
	NEED(file >= 0 && unlink(path_of("file")) == 0);
	drain(fd);
	ready();
	await_check();
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	EXPECT_OK(open(path, O_RDONLY));
	expect_event(fd, "the file", 1, IN_OPEN, "");
	passed();
}
