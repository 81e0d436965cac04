/* Moved inside pthread_cond_timedwait, and its mutex is held again afterwards. */
#include "call.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static struct answer call(void)
{
	struct timespec time = call_end(CLOCK_REALTIME);
	pthread_mutex_lock(&lock);
	int result = pthread_cond_timedwait(&condition, &lock, &time);
	EXPECT_EQ("the mutex", pthread_mutex_trylock(&lock), EBUSY);
	pthread_mutex_unlock(&lock);
	return (struct answer){ result, 0 };
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	repeat_by_clock(CLOCK_REALTIME, "pthread_cond_timedwait", call, (struct answer){ ETIMEDOUT, 0 });
}
