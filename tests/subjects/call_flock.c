/* Moved inside a wait for a lock (flock) that another description has. */
#include "call.h"
#include <sys/file.h>

static int holder, waiter;

static struct answer call(void)
{
	return ANSWER(flock(waiter, LOCK_EX));
}

static void release(pid_t tid)
{
	(void)tid;
	EXPECT_OK(flock(holder, LOCK_UN));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	holder = make_file("file", 1, 1);
	waiter = open(path_of("file"), O_RDWR);
	NEED(waiter >= 0 && flock(holder, LOCK_SH) == 0);
	block_until_check("flock", call, release, (struct answer){ 0, 0 });
	EXPECT(flock(holder, LOCK_SH | LOCK_NB) == -1, "the lock that it waited for is not there");
	passed();
}
