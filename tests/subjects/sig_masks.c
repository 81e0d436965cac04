/* Each thread's signal mask, and that a new signal goes to the thread that lets it through. */
#include "subject.h"

static uint64_t mask_of(int i)
{
	return (0x5a5a5a5a5a5a5a5aULL >> i | 1ULL << (SIGUSR2 - 1)) & ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1) | 3ULL << 31);
}

static uint64_t now_masked(void)
{
	uint64_t mask = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, 8);
	return mask;
}

static volatile pid_t got_by;
static volatile int stop;

static void handler(int signal)
{
	(void)signal;
	got_by = (pid_t)syscall(SYS_gettid);
}

static void *thread(void *number)
{
	uint64_t mask = mask_of((int)(uintptr_t)number);

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
	await_check();
	EXPECT_EQ("a thread's mask", now_masked(), mask);
	return NULL;
}

static volatile pid_t open_one;

static void *lets_through(void *unused)
{
	uint64_t none = 0;

	(void)unused;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
	open_one = (pid_t)syscall(SYS_gettid);
	while (!stop)
		pause_ms(1);
	EXPECT_EQ("the open thread's mask", now_masked(), 0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[5];
	struct sigaction action = { .sa_handler = handler };
	uint64_t mask = mask_of(9);

	begin(argc, argv);
	NEED(sigaction(SIGUSR2, &action, NULL) == 0);
	for (int i = 0; i < 4; i++)
		threads[i] = start_thread(thread, (void *)(uintptr_t)i);
	threads[4] = start_thread(lets_through, NULL);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
	pause_ms(20);
	ready();
	await_check();

	EXPECT_EQ("the main thread's mask", now_masked(), mask);
	EXPECT_OK(kill(getpid(), SIGUSR2));
	for (int i = 0; i < 2000 && !got_by; i++)
		pause_ms(1);
	EXPECT_EQ("the thread that got the signal", got_by, open_one);
	stop = 1;
	for (int i = 0; i < 5; i++)
		pthread_join(threads[i], NULL);
	passed();
}
