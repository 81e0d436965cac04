/* Shares POSIX shared memory with a process that stays: refused by name, and it runs on here. */
#include "subject.h"
#include <signal.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	pid_t self = getpid();
	char name[40];
	snprintf(name, sizeof name, "/subject-%d", self);
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	NEED(fd >= 0 && ftruncate(fd, PAGE) == 0);
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
	char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(memory != MAP_FAILED && close(fd) == 0);
	fill(memory, PAGE, 1);
	ready();
	await_check();
	expect_filled("the memory", memory, PAGE, 1);
	shm_unlink(name);
	passed();
}
