/* Has used System V semaphores: refused by name, and it uses them on here. */
#include "subject.h"
#include <sys/ipc.h>
#include <sys/sem.h>

int main(int argc, char **argv)
{
	struct sembuf up = { .sem_num = 2, .sem_op = 1 }, down = { .sem_num = 2, .sem_op = -1, .sem_flg = IPC_NOWAIT };

	begin(argc, argv);
	int set = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
	if (set < 0 && errno == ENOSYS)
		skipped("the kernel has no System V semaphores");
	NEED(set >= 0 && semop(set, &up, 1) == 0);
	ready();
	await_check();
	int used = semop(set, &down, 1), why = errno;
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	EXPECT(used == 0, "semop: %s", strerror(why));
	passed();
}
