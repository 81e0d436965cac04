/* Moved while a thread waits for a lock with priority inheritance, until a point in time. */
#include "call.h"

static pthread_mutex_t lock;
static volatile int held;

static void *owner(void *unused)
{
	(void)unused;
	NEED(pthread_mutex_lock(&lock) == 0);
	held = 1;
	for (;;)
		pause();
}

static struct answer call(void)
{
	struct timespec time = call_end(CLOCK_REALTIME);
	return (struct answer){ pthread_mutex_timedlock(&lock, &time), 0 };
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attributes;

	begin(argc, argv);
	NEED(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
	NEED(pthread_mutex_init(&lock, &attributes) == 0);
	start_thread(owner, NULL);
	while (!held)
		pause_ms(1);
	/* The hosts of a pair need not agree on that clock. */
	repeat_by_clock(CLOCK_REALTIME, "futex_lock_pi with a time-out", call, (struct answer){ ETIMEDOUT, 0 });
}
