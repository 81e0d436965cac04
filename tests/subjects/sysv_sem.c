/*
 * System V semaphores: values, ID, key, creator, owner, permissions, who used them, and that some were never used. Two threads hand a turn
 * to each other by one set while it is moved.
 */
#include "sysv.h"

#define MANY 300

static int turns;
static volatile uint64_t counts[2];
static volatile int ends;

static void *take_turns(void *of)
{
	int self = (int)(long)of;

	for (;;) {
		int why = operate(turns, self, -1, 0);

		EXPECT(why == 0, "take the turn %d: %s", self, strerror(why));
		if (ends)
			break;
		EXPECT(counts[self] - counts[!self] == (self ? -1ULL : 0ULL), "the turn %d came twice", self);
		counts[self]++;
		why = operate(turns, !self, 1, 0);
		EXPECT(why == 0, "give the turn %d: %s", !self, strerror(why));
	}
	/* The other one may wait for its turn. */
	EXPECT_EQ("give the last turn", operate(turns, !self, 1, 0), 0);
	return NULL;
}

static void expect_values(const char *what, int set, int count, int (*expected)(int))
{
	unsigned short values[MANY];

	EXPECT_OK(semctl(set, 0, GETALL, (union semun){ .array = values }));
	for (int i = 0; i < count; i++)
		EXPECT(values[i] == expected(i), "%s: semaphore %d: expected %d, got %d", what, i, expected(i), values[i]);
}

static int large_value(int i)
{
	return i % 3 ? i * 109 % 32768 : 0;
}

static int keyed_value(int i)
{
	return (int[]){ 5, 0, 32767, 0 }[i];
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	key_t key = 0x5d000000 | getpid();
	unsigned short values[MANY];

	/* Whoever makes one is another than who has it, where this may be. */
	int others = setegid(2345) == 0 && seteuid(1234) == 0;
	int keyed = new_set(key, 4, 0640);
	if (others)
		NEED(seteuid(0) == 0 && setegid(0) == 0);
	struct semid_ds told = set_told(keyed);
	told.sem_perm.uid = 12;
	told.sem_perm.gid = 34;
	told.sem_perm.mode = 0604;
	NEED(semctl(keyed, 0, IPC_SET, (union semun){ .buf = &told }) == 0);
	NEED(operate(keyed, 0, 5, 0) == 0 && operate(keyed, 1, 1, 0) == 0 && operate(keyed, 1, -1, 0) == 0);
	NEED(operate(keyed, 2, 32767, 0) == 0);

	int large = new_set(IPC_PRIVATE, MANY, 0606), gone = new_set(IPC_PRIVATE, 1, 0600);
	for (int i = 0; i < MANY; i++)
		values[i] = large_value(i);
	NEED(semctl(large, 0, SETALL, (union semun){ .array = values }) == 0);
	NEED(semctl(gone, 0, SETVAL, (union semun){ .val = 1 }) == 0 && semctl(gone, 0, IPC_RMID) == 0);

	turns = new_set(IPC_PRIVATE, 2, 0600);
	NEED(operate(turns, 0, 1, 0) == 0);
	pthread_t threads[] = { start_thread(take_turns, (void *)0L), start_thread(take_turns, (void *)1L) };
	ready();
	uint64_t before = counts[0];
	await_check();
	for (int i = 0; i < 5000 && counts[0] == before; i++)
		pause_ms(1);
	EXPECT(counts[0] > before, "nobody takes a turn any more");
	ends = 1;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);

	EXPECT(semget(key, 0, 0) == keyed, "the key leads to another set");
	expect_values("keyed", keyed, 4, keyed_value);
	told = set_told(keyed);
	EXPECT_EQ("semaphores", told.sem_nsems, 4);
	expect_permissions("keyed", told.sem_perm, 12, 34, others ? 1234 : geteuid(), others ? 2345 : getegid(), 0604);
	EXPECT(told.sem_otime != 0, "no semop has been done on it");
	for (int i = 0; i < 4; i++) {
		int user = semctl(keyed, i, GETPID);
		EXPECT(user == (i < 3 ? getpid() : 0), "semaphore %d was last used by %d", i, user);
	}
	expect_values("large", large, MANY, large_value);
	told = set_told(large);
	expect_permissions("large", told.sem_perm, geteuid(), getegid(), geteuid(), getegid(), 0606);
	EXPECT(told.sem_otime == 0, "a semop has been done on it");
	EXPECT(semctl(gone, 0, IPC_STAT, (union semun){ .buf = &told }) == -1, "the removed set is there");
	EXPECT(operate(keyed, 3, -1, IPC_NOWAIT) == EAGAIN && operate(keyed, 2, 1, 0) == ERANGE, "its values are others");
	EXPECT_OK(semctl(keyed, 0, IPC_RMID));
	EXPECT_OK(semctl(large, 0, IPC_RMID));
	EXPECT_OK(semctl(turns, 0, IPC_RMID));
	passed();
}
