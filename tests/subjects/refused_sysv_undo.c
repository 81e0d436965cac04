/* A thread undoes at its own end what it has done to a semaphore (unshare CLONE_SYSVSEM): refused by name, and it undoes it here. */
#include "sysv.h"

static int set;
static volatile int ends;

static void *change_one(void *unused)
{
	NEED(unshare(CLONE_SYSVSEM) == 0);
	NEED(operate(set, 1, 3, SEM_UNDO) == 0);
	while (!ends)
		pause_ms(1);
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	set = new_set(IPC_PRIVATE, 2, 0600);
	NEED(operate(set, 0, 1, 0) == 0);
	pthread_t thread = start_thread(change_one, NULL);
	while (semctl(set, 1, GETVAL) != 3)
		pause_ms(1);
	ready();
	await_check();
	int before = semctl(set, 1, GETVAL);
	ends = 1;
	pthread_join(thread, NULL);
	/* The kernel ends it a moment later. */
	for (int i = 0; i < 5000 && semctl(set, 1, GETVAL) != 0; i++)
		pause_ms(1);
	int after = semctl(set, 1, GETVAL);
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	EXPECT(before == 3 && after == 0, "it was %d, and is %d", before, after);
	passed();
}
