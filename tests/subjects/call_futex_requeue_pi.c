/* Moved while a thread waits to be handed from one futex to a lock with priority inheritance (FUTEX_WAIT_REQUEUE_PI). */
#include "call.h"
#include <linux/futex.h>

static uint32_t word = 7, lock;

static struct answer call(void)
{
	return ANSWER(syscall(SYS_futex, &word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 7, NULL, &lock, 0));
}

static void hand_over(pid_t tid)
{
	EXPECT_EQ("threads handed over", syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 1, &lock, 7), 1);
	for (int i = 0; i < 5000 && (lock & FUTEX_TID_MASK) != (uint32_t)tid; i++)
		pause_ms(1);
	EXPECT_EQ("the lock's owner", lock & FUTEX_TID_MASK, tid);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	block_until_check("futex_wait_requeue_pi", call, hand_over, (struct answer){ 0, 0 });
	passed();
}
