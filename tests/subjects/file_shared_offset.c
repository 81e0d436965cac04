/* dup() shares the offset and the status flags, opening twice shares nothing; close-on-exec is each descriptor's own. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	close(make_file("data", 4, 1));
	int first = open(path_of("data"), O_RDONLY | O_CLOEXEC);
	int second = dup(first);
	int third = fcntl(first, F_DUPFD_CLOEXEC, 50);
	int other = open(path_of("data"), O_RDONLY);
	NEED(first >= 0 && second >= 0 && third >= 50 && other >= 0);
	NEED(lseek(first, 100, SEEK_SET) == 100 && lseek(other, 200, SEEK_SET) == 200);
	ready();
	await_check();

	EXPECT_EQ("close-on-exec of the first", fcntl(first, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("close-on-exec of its duplicate", fcntl(second, F_GETFD), 0);
	EXPECT_EQ("close-on-exec of the third", fcntl(third, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("close-on-exec of the other", fcntl(other, F_GETFD), 0);
	EXPECT_EQ("offset of the duplicate", lseek(second, 0, SEEK_CUR), 100);
	EXPECT_EQ("offset of the other", lseek(other, 0, SEEK_CUR), 200);
	EXPECT_EQ("lseek", lseek(second, 300, SEEK_SET), 300);
	EXPECT_EQ("offset of the first after seeking in its duplicate", lseek(first, 0, SEEK_CUR), 300);
	EXPECT_EQ("offset of the third after seeking in its duplicate", lseek(third, 0, SEEK_CUR), 300);
	EXPECT_EQ("offset of the other after seeking elsewhere", lseek(other, 0, SEEK_CUR), 200);
	EXPECT_OK(fcntl(third, F_SETFL, O_NONBLOCK));
	EXPECT(fcntl(first, F_GETFL) & O_NONBLOCK, "status flags are no longer shared");
	EXPECT(!(fcntl(other, F_GETFL) & O_NONBLOCK), "status flags became shared");
	passed();
}
