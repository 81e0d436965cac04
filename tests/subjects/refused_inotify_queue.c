/* Events that have not been read can be given to nobody: it stays, and they are there. */
#include "inotify.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = inotify_init1(0);
	NEED(fd >= 0 && mkdir(path_of("directory"), 0777) == 0);
	int directory = watch(fd, "directory", IN_CREATE);
	make_empty("directory/x");
	ready();
	await_check();
	expect_event(fd, "the directory", directory, IN_CREATE, "x");
	passed();
}
