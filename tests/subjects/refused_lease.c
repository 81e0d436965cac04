/* A lease: opening the file over there would break it. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = make_file("leased", 1, 1);
	NEED(fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
	ready();
	await_check();
	EXPECT_EQ("the lease", fcntl(fd, F_GETLEASE), F_WRLCK);
	passed();
}
