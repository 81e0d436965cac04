/* Moved while a thread waits for a lock with priority inheritance: it gets it when its owner lets it go. */
#include "call.h"

static pthread_mutex_t lock;

static struct answer call(void)
{
	return (struct answer){ pthread_mutex_lock(&lock), 0 };
}

static void release(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("pthread_mutex_unlock", pthread_mutex_unlock(&lock), 0);
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attributes;

	begin(argc, argv);
	NEED(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
	NEED(pthread_mutex_init(&lock, &attributes) == 0 && pthread_mutex_lock(&lock) == 0);
	block_until_check("futex_lock_pi", call, release, (struct answer){ 0, 0 });
	EXPECT_EQ("the lock of a thread that has ended", pthread_mutex_trylock(&lock), EBUSY);
	passed();
}
