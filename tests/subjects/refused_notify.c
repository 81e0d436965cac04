/* A directory whose changes are signalled (F_NOTIFY): nothing tells what was asked for. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = open(path_of("."), O_RDONLY | O_DIRECTORY);
	NEED(fd >= 0);
	signal(SIGIO, SIG_IGN);
	if (fcntl(fd, F_NOTIFY, DN_DELETE | DN_MULTISHOT) != 0)
		skipped("this kernel has no F_NOTIFY");
	ready();
	await_check();
	passed();
}
