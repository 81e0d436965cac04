/* Shares System V shared memory with a process that stays: refused by name, and it runs on here. */
#include "subject.h"
#include <signal.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	pid_t self = getpid();
	int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
	if (id < 0 && errno == ENOSYS)
		skipped("the kernel has no System V shared memory");
	char *memory = shmat(id, NULL, 0);
	NEED(id >= 0 && memory != (void *)-1);
	pid_t between = fork();
	NEED(between >= 0);
	if (between == 0) {
		/* Nobody's child: it ends soon after the subject. */
		if (fork() == 0)
			while (kill(self, 0) == 0)
				pause_ms(50);
		_exit(0);
	}
	NEED(waitpid(between, NULL, 0) == between);
	NEED(shmctl(id, IPC_RMID, NULL) == 0);
	fill(memory, PAGE, 1);
	ready();
	await_check();
	expect_filled("the segment", memory, PAGE, 1);
	passed();
}
