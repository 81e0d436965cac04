/* Moved while a thread waits for any of several futexes (futex_waitv). */
#include "call.h"
#include <linux/futex.h>

static uint32_t words[3];

static struct answer call(void)
{
	struct futex_waitv wait[3];

	for (int i = 0; i < 3; i++)
		wait[i] = (struct futex_waitv){ .val = 0, .uaddr = (uintptr_t)&words[i], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG };
	return ANSWER(syscall(SYS_futex_waitv, wait, 3, 0, NULL, CLOCK_MONOTONIC));
}

static void wake(pid_t tid)
{
	(void)tid;
	EXPECT_EQ("threads woken", syscall(SYS_futex, &words[2], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	block_until_check("futex_waitv", call, wake, (struct answer){ 2, 0 });
	passed();
}
