/* Shares System V shared memory with a process that stays: refused by name, and it runs on here. */
#include "subject.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
	if (id < 0 && errno == ENOSYS)
		skipped("the kernel has no System V shared memory");
	char *memory = shmat(id, NULL, 0);
	NEED(id >= 0 && memory != (void *)-1);
	leave_one_behind();
	NEED(shmctl(id, IPC_RMID, NULL) == 0);
	fill(memory, PAGE, 1);
	ready();
	await_check();
	expect_filled("the segment", memory, PAGE, 1);
	passed();
}
