/* A thread waits for a System V semaphore that nobody has used yet: refused by name, and it waits on here. */
#include "subject.h"
#include <sys/ipc.h>
#include <sys/sem.h>

static int set;

static void *wait_for_it(void *unused)
{
	struct sembuf down = { .sem_op = -1 };
	long failure = semop(set, &down, 1) == 0 ? 0 : errno;

	(void)unused;
	return (void *)failure;
}

int main(int argc, char **argv)
{
	struct sembuf up = { .sem_op = 1 };
	void *failure = NULL;

	begin(argc, argv);
	set = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	if (set < 0 && errno == ENOSYS)
		skipped("the kernel has no System V semaphores");
	NEED(set >= 0);
	pthread_t waiter = start_thread(wait_for_it, NULL);
	while (semctl(set, 0, GETNCNT) == 0)
		pause_ms(1);
	ready();
	await_check();
	int used = semop(set, &up, 1), why = errno;
	if (used == 0)
		pthread_join(waiter, &failure);
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	EXPECT(used == 0, "semop: %s", strerror(why));
	EXPECT(failure == NULL, "the thread that waits: %s", strerror((long)failure));
	passed();
}
