/* Moved inside a signal handler: it returns to what it interrupted, with the mask of before. */
#include "subject.h"

static volatile int entered, left;

static void handler(int signal)
{
	(void)signal;
	entered++;
	await_check();
	left++;
}

static void *sender(void *main_thread)
{
	pause_ms(20);
	pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
	while (!entered)
		pause_ms(1);
	ready();
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler };
	pthread_t self = pthread_self();
	volatile double x = 1.5;
	uint64_t before = 0, after = 0, counter = 0;

	begin(argc, argv);
	sigaddset(&action.sa_mask, SIGUSR2);
	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &before, 8);
	pthread_t thread = start_thread(sender, &self);
	double y = x * 3;
	while (!left)
		counter += left + 1;
	EXPECT(y == 4.5 && counter > 0, "a register changed over the handler");
	EXPECT_EQ("times that the handler ran", entered, 1);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &after, 8);
	EXPECT_EQ("the mask", after, before);
	pthread_join(thread, NULL);
	passed();
}
