/* Moved inside semtimedop, which the kernel ends with EINTR at every stop. */
#include "sysv.h"

static int set;

static struct answer call(void)
{
	struct sembuf down = { .sem_op = -1 };
	struct timespec time = { 0, CALL_NS };

	return ANSWER(semtimedop(set, &down, 1, &time));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	set = new_set(IPC_PRIVATE, 1, 0600);
	repeat_until_check("semtimedop", call, (struct answer){ -1, EAGAIN });
}
