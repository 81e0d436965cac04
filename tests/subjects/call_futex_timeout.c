/* Moved inside a futex wait with a timeout (relative, and until a point in time in turn). */
#include "call.h"
#include <linux/futex.h>

static uint32_t word = 7;
static int turn;

static struct answer call(void)
{
	struct timespec time = { 0, CALL_NS };

	if (turn ^= 1)
		return ANSWER(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &time, NULL, 0));
	time = call_end(CLOCK_MONOTONIC);
	return ANSWER(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 7, &time, NULL, FUTEX_BITSET_MATCH_ANY));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	repeat_until_check("futex_timeout", call, (struct answer){ -1, ETIMEDOUT });
}
