/*
 * A lease for writing. On one machine it is refused: opening the file over there would break it. Between two it moves; there the file is
 * made on both before the lease is taken, because nobody may open it to copy it.
 */
#include "lease.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = open(path_of("exclusive"), O_RDWR);
	if (fd == -1)
		fd = make_file("exclusive", 1, 1);
	take_lease(fd, F_WRLCK);
	ready();
	await_check();
	expect_lease("exclusive", fd, F_WRLCK, O_RDONLY, F_RDLCK);
	passed();
}
