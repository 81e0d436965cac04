/* System calls that are handed to the program (PR_SET_SYSCALL_USER_DISPATCH): refused. */
#include "subject.h"

#define SET_DISPATCH 59
#define DISPATCH_ON 1

static volatile char selector; /* 0: allowed */

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (prctl(SET_DISPATCH, DISPATCH_ON, 0, 0, &selector) != 0)
		skipped("PR_SET_SYSCALL_USER_DISPATCH takes Linux 5.11");
	ready();
	await_check();
	passed();
}
