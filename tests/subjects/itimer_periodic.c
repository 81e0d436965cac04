/* A periodic real-time interval timer: it goes on firing without being set again. */
#include "subject.h"
#include <sys/time.h>

static volatile int fired;

static void handler(int signal)
{
	(void)signal;
	fired++;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct itimerval period = { { 0, 50000 }, { 0, 50000 } }, now;

	begin(argc, argv);
	NEED(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &period, NULL) == 0);
	while (fired < 2)
		pause_ms(1);
	ready();
	await_check();

	int before = fired;
	int64_t started = now_us(CLOCK_MONOTONIC);
	while (fired < before + 4) {
		pause_ms(1);
		EXPECT(now_us(CLOCK_MONOTONIC) - started < 2000000, "fired %d times in 2 s instead of every 50 ms", fired - before);
	}
	EXPECT(now_us(CLOCK_MONOTONIC) - started > 140000, "fires too often");
	EXPECT_OK(getitimer(ITIMER_REAL, &now));
	EXPECT_EQ("the period in us", now.it_interval.tv_sec * 1000000 + now.it_interval.tv_usec, 50000);
	passed();
}
