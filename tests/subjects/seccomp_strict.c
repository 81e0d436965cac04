/* Strict mode, of the first thread and of another: they read and write, and anything else ends them. A third is free. */
#include "subject.h"
#include <linux/seccomp.h>

static int to_strict[2][2], from_strict[2][2];
static volatile int confined;
static pid_t tids[2];

/* Whether a thread is there, and has not ended. */
static int runs(pid_t tid)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t length = read(fd, text, sizeof text - 1);
	close(fd);
	const char *state = strrchr(text, ')');
	return length > 0 && state && state[2] != 'Z' && state[2] != 'X';
}

static void strict(int which)
{
	char byte;

	tids[which] = syscall(SYS_gettid);
	NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
	__atomic_add_fetch(&confined, 1, __ATOMIC_SEQ_CST);
	while (read(to_strict[which][0], &byte, 1) == 1) {
		/* Told to break its rules: the answer to that never comes. */
		if (byte == 'x')
			syscall(SYS_getppid);
		byte++;
		if (write(from_strict[which][1], &byte, 1) != 1)
			break;
	}
	for (;;)
		;
}

static void *other(void *unused)
{
	(void)unused;
	strict(1);
	return NULL;
}

static void *free_one(void *unused)
{
	(void)unused;
	while (confined < 2)
		pause_ms(1);
	ready();
	await_check();
	for (int i = 0; i < 2; i++) {
		char byte = 'a';

		EXPECT_EQ("a byte to it", write(to_strict[i][1], &byte, 1), 1);
		EXPECT_EQ("its answer", read(from_strict[i][0], &byte, 1), 1);
		EXPECT_EQ("the byte", byte, 'b');
		byte = 'x';
		EXPECT_EQ("a byte to it", write(to_strict[i][1], &byte, 1), 1);
		/* The thread ends, and its end of the answer is all that would tell. */
		NEED(fcntl(from_strict[i][0], F_SETFL, O_NONBLOCK) == 0);
		while (runs(tids[i])) {
			EXPECT(read(from_strict[i][0], &byte, 1) == -1, "strict thread %d made the call", i);
			pause_ms(1);
		}
		EXPECT(read(from_strict[i][0], &byte, 1) == -1, "strict thread %d made the call", i);
	}
	passed();
}

int main(int argc, char **argv)
{
	pthread_t thread;

	begin(argc, argv);
	for (int i = 0; i < 2; i++)
		NEED(pipe(to_strict[i]) == 0 && pipe(from_strict[i]) == 0);
	NEED(pthread_create(&thread, NULL, free_one, NULL) == 0);
	NEED(pthread_create(&thread, NULL, other, NULL) == 0);
	strict(0);
}
