/* Moved inside sem_timedwait. */
#include "call.h"
#include <semaphore.h>

static sem_t semaphore;

static struct answer call(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec += CALL_NS;
	time.tv_sec += time.tv_nsec / 1000000000;
	time.tv_nsec %= 1000000000;
	return ANSWER(sem_timedwait(&semaphore, &time));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(sem_init(&semaphore, 0, 0) == 0);
	repeat_until_check("sem_timedwait", call, (struct answer){ -1, ETIMEDOUT });
}
