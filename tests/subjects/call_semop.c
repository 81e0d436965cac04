/* Moved inside semop on a set that nobody has used yet; two operations, of which one is done only with the other. */
#include "sysv.h"

static int set;

static struct answer call(void)
{
	struct sembuf both[] = { { .sem_num = 1, .sem_op = 1 }, { .sem_num = 0, .sem_op = -1 } };

	return ANSWER(semop(set, both, 2));
}

static void wake(pid_t tid)
{
	(void)tid;
	EXPECT(semctl(set, 1, GETVAL) == 0, "half of it has been done");
	EXPECT_EQ("semop", operate(set, 0, 1, 0), 0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	set = new_set(IPC_PRIVATE, 2, 0600);
	block_until_check("semop", call, wake, (struct answer){ 0, 0 });
	EXPECT(semctl(set, 1, GETVAL) == 1 && semctl(set, 0, GETVAL) == 0, "it was done %d times", semctl(set, 1, GETVAL));
	EXPECT_OK(semctl(set, 0, IPC_RMID));
	passed();
}
