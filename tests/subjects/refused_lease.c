/* A lease for writing, on one machine: opening the file over there would break it. To another machine it moves. */
#include "lease.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = make_file("leased", 1, 1);
	take_lease(fd, F_WRLCK);
	ready();
	await_check();
	expect_lease("leased", fd, F_WRLCK, O_RDONLY, F_RDLCK);
	passed();
}
