/* System V semaphores and message queues. */
#ifndef SYSV_H
#define SYSV_H
#include "call.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

/* The largest message that every kernel allows by default. */
#define MOST_TEXT 8192

struct message {
	long type;
	uint64_t text[MOST_TEXT / 8];
};

static UNUSED int new_set(key_t key, int count, int mode)
{
	int set = semget(key, count, IPC_CREAT | IPC_EXCL | mode);

	if (set < 0 && errno == ENOSYS)
		skipped("the kernel has no System V semaphores");
	NEED(set >= 0);
	return set;
}

static UNUSED int new_queue(key_t key, int mode)
{
	int queue = msgget(key, IPC_CREAT | IPC_EXCL | mode);

	if (queue < 0 && errno == ENOSYS)
		skipped("the kernel has no System V message queues");
	NEED(queue >= 0);
	return queue;
}

/* 0, or why it failed. */
static UNUSED int operate(int set, int semaphore, int change, int flags)
{
	struct sembuf operation = { .sem_num = semaphore, .sem_op = change, .sem_flg = flags };

	return semop(set, &operation, 1) == 0 ? 0 : errno;
}

static UNUSED struct semid_ds set_told(int set)
{
	struct semid_ds told;

	EXPECT(semctl(set, 0, IPC_STAT, (union semun){ .buf = &told }) == 0, "set %d: %s", set, strerror(errno));
	return told;
}

static UNUSED struct msqid_ds queue_told(int queue)
{
	struct msqid_ds told;

	EXPECT(msgctl(queue, IPC_STAT, &told) == 0, "queue %d: %s", queue, strerror(errno));
	return told;
}

static UNUSED void expect_permissions(const char *what, struct ipc_perm told, unsigned uid, unsigned gid, unsigned cuid,
				      unsigned cgid, unsigned mode)
{
	EXPECT(told.uid == uid && told.gid == gid, "%s: owner %u:%u", what, told.uid, told.gid);
	EXPECT(told.cuid == cuid && told.cgid == cgid, "%s: made by %u:%u", what, told.cuid, told.cgid);
	EXPECT((told.mode & 0777) == mode, "%s: mode %o", what, told.mode);
}

/* A process that stays, and does nothing but this before that. Returns when it is done. */
static UNUSED void have_one_left_behind(void (*do_it)(void), int forever)
{
	pid_t self = getpid(), between;
	int ends[2];
	char byte;

	NEED(pipe(ends) == 0 && (between = fork()) >= 0);
	if (between == 0) {
		if (fork() == 0) {
			close(ends[0]);
			if (!forever)
				do_it();
			close(ends[1]);
			if (forever)
				do_it();
			while (kill(self, 0) == 0)
				pause_ms(50);
		}
		_exit(0);
	}
	close(ends[1]);
	NEED(waitpid(between, NULL, 0) == between && read(ends[0], &byte, 1) == 0);
	close(ends[0]);
}

#endif
