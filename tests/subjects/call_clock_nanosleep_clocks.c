/* Moved inside clock_nanosleep of every clock there is, for a time and until a point in time. */
#include "call.h"

static volatile pid_t busy;

static void *burn(void *unused)
{
	(void)unused;
	busy = (pid_t)syscall(SYS_gettid);
	/* Whoever waits for its time would wait for ever if it ended. */
	for (;;)
		for (volatile int i = 0; i < 1000000; i++)
			;
	return NULL;
}

static struct answer call(void)
{
	/* CPU time begins anew: until a point of it the wait would be longer. */
	static const struct { int clock, flags; } ways[] = {
		{ CLOCK_REALTIME, 0 }, { CLOCK_REALTIME, TIMER_ABSTIME }, { CLOCK_BOOTTIME, 0 }, { CLOCK_BOOTTIME, TIMER_ABSTIME },
		{ CLOCK_TAI, 0 }, { CLOCK_TAI, TIMER_ABSTIME }, { CLOCK_PROCESS_CPUTIME_ID, 0 },
	};
	static size_t turn;
	int clock = ways[turn % 7].clock, flags = ways[turn % 7].flags;
	struct timespec time = { 0, CALL_NS };

	turn++;
	/* Of that thread alone: no wait for its time is shorter than the time. */
	if (clock == CLOCK_PROCESS_CPUTIME_ID)
		clock = (int)(~(unsigned)busy << 3 | 6);
	if (flags == TIMER_ABSTIME)
		time = call_end(clock);
	struct answer answer = ANSWER(syscall(SYS_clock_nanosleep, clock, flags, &time, NULL));
	if (flags == TIMER_ABSTIME && clock != CLOCK_BOOTTIME) {
		EXPECT(now_us(clock) >= time.tv_sec * 1000000LL + time.tv_nsec / 1000, "clock %d is not there yet", clock);
		/* The hosts of a pair need not agree on what time of day it is: it may have been sooner, in milliseconds. */
		pause_ms(50);
	}
	return answer;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	start_thread(burn, NULL);
	while (busy == 0)
		pause_ms(1);
	repeat_until_check("clock_nanosleep", call, (struct answer){ 0, 0 });
}
