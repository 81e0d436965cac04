/* Moved inside clock_nanosleep until a point in time, which is not put off by the move. */
#include "call.h"

static struct answer call(void)
{
	struct timespec time = call_end(CLOCK_MONOTONIC);
	struct answer answer = ANSWER(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL));
	int64_t late = now_us(CLOCK_MONOTONIC) - (time.tv_sec * 1000000LL + time.tv_nsec / 1000);
	EXPECT(late >= 0 && late < 2000000, "woke up %lld us late", (long long)late);
	return answer;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	repeat_until_check("clock_nanosleep_absolute", call, (struct answer){ 0, 0 });
}
