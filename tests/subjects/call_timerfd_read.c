/* Moved inside a read of a timer that expires in half a second, again and again. */
#include "call.h"
#include <sys/timerfd.h>

static int timer;

static struct answer call(void)
{
	struct itimerspec set = { .it_value = { 0, CALL_NS } };
	uint64_t ticks = 0;

	EXPECT_OK(timerfd_settime(timer, 0, &set, NULL));
	struct answer got = ANSWER(read(timer, &ticks, sizeof ticks));
	EXPECT_EQ("expirations", ticks, 1);
	return got;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	NEED(timer >= 0);
	repeat_until_check("timerfd_read", call, (struct answer){ 8, 0 });
}
