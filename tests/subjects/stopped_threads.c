/*
 * Stopped by SIGSTOP while its threads work and sleep, moved so, and continued by the harness: until then nothing of it runs, and what
 * was sent to it meanwhile comes once.
 */
#include "subject.h"
#include <sys/time.h>

#define THREADS 3

/*
 * Not by the vDSO: a thread that is stopped in the middle of that does not move to a kernel with another one, because it cannot run out of it.
 */
static int64_t asked_now_us(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static volatile int alarms, continued;
static volatile int64_t continued_at;
static volatile int stop;
static int64_t longest_gap[THREADS];

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

static void on_continue(int signal)
{
	(void)signal;
	if (continued++ == 0)
		continued_at = asked_now_us();
}

/* The first computes, the others sleep. */
static void *work(void *argument)
{
	int64_t *gap = argument, last = asked_now_us();

	while (!stop) {
		if (gap != longest_gap)
			pause_ms(1);
		int64_t now = asked_now_us();
		if (now - last > *gap)
			*gap = now - last;
		last = now;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction on = { .sa_handler = on_continue, .sa_flags = SA_RESTART };
	struct itimerval soon = { { 0, 0 }, { 0, 20000 } };
	pthread_t threads[THREADS];

	begin(argc, argv);
	NEED(sigaction(SIGCONT, &on, NULL) == 0);
	on.sa_handler = on_alarm;
	NEED(sigaction(SIGALRM, &on, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		threads[i] = start_thread(work, &longest_gap[i]);
	pause_ms(20);
	ready();
	/* Expires while it is stopped: SIGALRM waits. */
	NEED(setitimer(ITIMER_REAL, &soon, NULL) == 0);
	int64_t stopped_at = asked_now_us();
	raise(SIGSTOP);

	for (int i = 0; i < 1000 && (continued == 0 || alarms == 0); i++)
		pause_ms(1);
	EXPECT_EQ("SIGCONT handled", continued, 1);
	EXPECT_EQ("SIGALRM handled", alarms, 1);
	EXPECT(check_wanted(), "it went on before it was continued");
	pause_ms(50);
	stop = 1;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT(longest_gap[i] + 100000 > continued_at - stopped_at, "thread %d ran while it was stopped: %lld us, and it never paused for more than %lld us", i,
		       (long long)(continued_at - stopped_at), (long long)longest_gap[i]);
	}
	EXPECT_EQ("SIGCONT handled in the end", continued, 1);
	EXPECT_EQ("SIGALRM handled in the end", alarms, 1);
	passed();
}
