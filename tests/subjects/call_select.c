/* Moved inside select with a timeout, nothing to read. */
#include "call.h"
#include <sys/select.h>

static int ends[2];

static struct answer call(void)
{
	struct timeval time = { 0, CALL_MS * 1000 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	return ANSWER(syscall(SYS_select, ends[0] + 1, &set, NULL, NULL, &time));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	repeat_until_check("select", call, (struct answer){ 0, 0 });
}
