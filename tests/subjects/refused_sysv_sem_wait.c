/* Another process waits for a semaphore of its set, which it has not used yet: refused by name, and it is woken here. */
#include "sysv.h"

static int set;

static void wait_for_it(void)
{
	operate(set, 1, -1, 0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	set = new_set(IPC_PRIVATE, 3, 0600);
	NEED(operate(set, 2, 1, 0) == 0);
	have_one_left_behind(wait_for_it, 1);
	while (semctl(set, 1, GETNCNT) == 0)
		pause_ms(1);
	ready();
	await_check();
	int waiting = semctl(set, 1, GETNCNT), why = operate(set, 1, 1, 0);
	for (int i = 0; i < 5000 && semctl(set, 1, GETVAL) != 0; i++)
		pause_ms(1);
	int left = semctl(set, 1, GETVAL);
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	EXPECT(waiting == 1 && why == 0 && left == 0, "%d waited, %s, %d left", waiting, strerror(why), left);
	passed();
}
