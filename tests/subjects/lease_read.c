/* A lease for reading, with the signal that tells when it is broken. */
#include "lease.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	close(make_file("leased", 1, 1));
	int fd = open(path_of("leased"), O_RDONLY);
	NEED(fd >= 0);
	take_lease(fd, F_RDLCK);
	ready();
	await_check();
	int reader = open(path_of("leased"), O_RDONLY | O_NONBLOCK);
	EXPECT(reader >= 0, "open for reading: %s", strerror(errno));
	expect_lease("leased", fd, F_RDLCK, O_RDWR, F_UNLCK);
	passed();
}
