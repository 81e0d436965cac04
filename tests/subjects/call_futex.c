/* Moved inside a futex wait without a timeout. */
#include "call.h"
#include <linux/futex.h>

static uint32_t word = 7;

static struct answer call(void)
{
	return ANSWER(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, NULL, NULL, 0));
}

static void wake(pid_t tid)
{
	(void)tid;
	word = 8;
	EXPECT_EQ("threads woken", syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	block_until_check("futex", call, wake, (struct answer){ 0, 0 });
	passed();
}
