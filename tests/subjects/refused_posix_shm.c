/* Shares POSIX shared memory with a process that stays: refused by name, and it runs on here. */
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	char name[40];
	snprintf(name, sizeof name, "/subject-%d", getpid());
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	NEED(fd >= 0 && ftruncate(fd, PAGE) == 0);
	leave_one_behind();
	char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(memory != MAP_FAILED && close(fd) == 0);
	fill(memory, PAGE, 1);
	ready();
	await_check();
	expect_filled("the memory", memory, PAGE, 1);
	shm_unlink(name);
	passed();
}
