/* Moved inside nanosleep. */
#include "call.h"

static struct answer call(void)
{
	struct timespec time = { 0, CALL_NS };

	return ANSWER(syscall(SYS_nanosleep, &time, NULL));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	repeat_until_check("nanosleep", call, (struct answer){ 0, 0 });
}
