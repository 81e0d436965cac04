/* Another process has used a semaphore of its set: refused by name, and it uses them on here. */
#include "sysv.h"

static int set;

static void use_one(void)
{
	NEED(operate(set, 1, 1, 0) == 0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	set = new_set(IPC_PRIVATE, 3, 0600);
	NEED(operate(set, 2, 1, 0) == 0);
	have_one_left_behind(use_one, 0);
	ready();
	await_check();
	int why = operate(set, 2, -1, IPC_NOWAIT);
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	EXPECT(why == 0, "semop: %s", strerror(why));
	passed();
}
