/* Moved inside sem_timedwait. */
#include "call.h"
#include <semaphore.h>

static sem_t semaphore;

static struct answer call(void)
{
	struct timespec time = call_end(CLOCK_REALTIME);
	return ANSWER(sem_timedwait(&semaphore, &time));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(sem_init(&semaphore, 0, 0) == 0);
	repeat_by_clock(CLOCK_REALTIME, "sem_timedwait", call, (struct answer){ -1, ETIMEDOUT });
}
