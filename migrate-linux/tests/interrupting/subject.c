/* It is sent signals by two timers all the time, and takes each. */
#include <signal.h>
#include <time.h>
#include <unistd.h>

static void take(int signal)
{
	(void)signal;
}

int main(void)
{
	struct sigaction action = { .sa_handler = take };
	struct itimerspec often = { { 0, 50000 }, { 0, 50000 } };

	for (int i = 0; i < 2; i++) {
		struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + i };
		timer_t timer;
		if (sigaction(SIGRTMIN + i, &action, NULL) || timer_create(CLOCK_MONOTONIC, &event, &timer) ||
		    timer_settime(timer, 0, &often, NULL))
			return 1;
	}
	if (write(1, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}
