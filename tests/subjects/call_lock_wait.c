/* Moved inside a wait for a range that another description has locked (F_OFD_SETLKW). */
#include "call.h"

static int holder, waiter;

static int lock(int fd, int command, int type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = 5, .l_len = 5 };

	return fcntl(fd, command, &lock);
}

static struct answer call(void)
{
	return ANSWER(lock(waiter, F_OFD_SETLKW, F_WRLCK));
}

static void release(pid_t tid)
{
	(void)tid;
	EXPECT_OK(lock(holder, F_OFD_SETLK, F_UNLCK));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	holder = make_file("file", 1, 1);
	waiter = open(path_of("file"), O_RDWR);
	NEED(waiter >= 0 && lock(holder, F_OFD_SETLK, F_WRLCK) == 0);
	block_until_check("F_OFD_SETLKW", call, release, (struct answer){ 0, 0 });
	EXPECT(lock(holder, F_OFD_SETLK, F_RDLCK) == -1, "the lock that it waited for is not there");
	passed();
}
