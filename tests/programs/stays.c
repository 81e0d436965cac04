/* Preloaded into a worker of stress-ng, which would end with its parent: it does not ask for that. */
#include <sys/prctl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int prctl(int option, ...)
{
	unsigned long arguments[4];
	va_list list;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		arguments[i] = va_arg(list, unsigned long);
	va_end(list);
	if (option == PR_SET_PDEATHSIG)
		return 0;
	return syscall(SYS_prctl, option, arguments[0], arguments[1], arguments[2], arguments[3]);
}
