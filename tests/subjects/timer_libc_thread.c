/* A POSIX timer whose expiries libc has functions called for, each in a thread of its own (SIGEV_THREAD). */
#include "timer.h"

static volatile int calls;

static void called(union sigval value)
{
	EXPECT_EQ("the value", value.sival_int, 77);
	calls++;
}

static void wait_for_more(int more)
{
	int before = calls;

	for (int i = 0; i < 10000 && calls < before + more; i++)
		pause_ms(1);
	EXPECT(calls >= before + more, "%d calls in ten seconds", calls - before);
}

int main(int argc, char **argv)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = called, .sigev_value.sival_int = 77 };
	struct itimerspec period = { to_time(20000000), to_time(20000000) };
	timer_t timer;

	begin(argc, argv);
	NEED(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &period, NULL) == 0);
	wait_for_more(2);
	ready();
	await_check();

	wait_for_more(10);
	EXPECT_OK(timer_gettime(timer, &period));
	EXPECT_EQ("the interval", to_ns(period.it_interval), 20000000);
	passed();
}
