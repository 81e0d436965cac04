/* A file in /proc of another process, which stays. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(open("/proc/1/status", O_RDONLY) >= 0);
	ready();
	await_check();
	passed();
}
