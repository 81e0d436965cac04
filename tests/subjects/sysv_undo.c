/*
 * What semop is to undo when the process ends (SEM_UNDO), of its threads too: a process that stays sees that it is undone, and in this
 * moment.
 */
#include "sysv.h"

#define COUNT 200

/* Value, and what is to be undone of it. */
static const struct { int semaphore, value, undone; } changes[] = {
	{ 0, 0, -1 },	   /* a lock that is held */
	{ 1, 3, 3 },	   /* it goes with the process */
	{ 2, 10, 32767 },  /* more than there is */
	{ 3, 32000, -32000 },
	{ 64, 5, -2 },
	{ 199, 7, 4 },
};
#define CHANGES (sizeof changes / sizeof *changes)

static int set;

static void *change_one(void *unused)
{
	(void)unused;
	NEED(operate(set, 5, 4, SEM_UNDO) == 0);
	return NULL;
}

static int value(int semaphore)
{
	return semctl(set, semaphore, GETVAL);
}

static void expect_value(const char *when, int semaphore, int expected)
{
	EXPECT(value(semaphore) == expected, "semaphore %d %s: expected %d, got %d", semaphore, when, expected, value(semaphore));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int bystander = new_set(IPC_PRIVATE, 1, 0600);
	set = new_set(IPC_PRIVATE, COUNT, 0600);
	NEED(operate(bystander, 0, 2, 0) == 0);
	for (size_t i = 0; i < CHANGES; i++) {
		int semaphore = changes[i].semaphore, at_first = changes[i].undone < 0 ? -changes[i].undone : 0;

		NEED(at_first == 0 || operate(set, semaphore, at_first, 0) == 0);
		NEED(operate(set, semaphore, changes[i].undone, SEM_UNDO) == 0);
		at_first = changes[i].value - value(semaphore);
		NEED(at_first == 0 || operate(set, semaphore, at_first, 0) == 0);
	}
	pthread_t thread = start_thread(change_one, NULL);
	pthread_join(thread, NULL);
	ready();
	await_check();
	for (size_t i = 0; i < CHANGES; i++)
		expect_value("now", changes[i].semaphore, changes[i].value);
	expect_value("now", 5, 4);
	expect_value("now", 6, 0);
	/* What has been done is undone by the opposite, too. */
	EXPECT(operate(set, 64, 2, SEM_UNDO) == 0, "semop: %s", strerror(errno));

	pid_t self = getpid(), witness = fork();
	EXPECT(witness >= 0, "fork: %s", strerror(errno));
	if (witness != 0)
		_exit(0);
	for (int i = 0; i < 5000 && kill(self, 0) == 0; i++)
		pause_ms(1);
	for (int i = 0; i < 5000 && value(1) != 0; i++)
		pause_ms(1);
	for (size_t i = 0; i < CHANGES; i++) {
		int expected = changes[i].semaphore == 64 ? 7 : changes[i].value - changes[i].undone;

		/* The kernel's least and most. */
		expected = expected < 0 ? 0 : expected > 32767 ? 32767 : expected;
		expect_value("at the end", changes[i].semaphore, expected);
	}
	expect_value("at the end", 5, 0);
	EXPECT(semctl(bystander, 0, GETVAL) == 2, "what was not to be undone is");
	EXPECT_OK(semctl(bystander, 0, IPC_RMID));
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	passed();
}
