/* Moved inside clock_nanosleep with an interval. */
#include "call.h"

static struct answer call(void)
{
	struct timespec time = { 0, CALL_NS };

	return ANSWER(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	repeat_until_check("clock_nanosleep", call, (struct answer){ 0, 0 });
}
