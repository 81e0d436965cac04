/*
 * Queues of real-time signals, filled and emptied by chance: of each number they come in the order in which they were sent, each once,
 * with what it carries; those of a thread, of the process, and standard ones, of which one is kept.
 */
#include "subject.h"

#define WORKERS 3
#define DEPTH 24

struct queue { int signal, to_thread; uint64_t sent, taken; };

struct worker { uint64_t chance; pid_t tid; struct queue queues[3]; int standard, waits; };

static volatile int stop;

/* Ok: of `signal`, or 0 when none waits. */
static siginfo_t take(int signal)
{
	uint64_t set = 1ULL << (signal - 1);
	struct timespec none = { 0, 0 };
	siginfo_t info = { 0 };

	if (syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8) < 0) {
		EXPECT(errno == EAGAIN, "rt_sigtimedwait: %s", strerror(errno));
		info.si_signo = 0;
	}
	return info;
}

static void send(struct worker *w, struct queue *q)
{
	siginfo_t info = { .si_signo = q->signal, .si_code = SI_QUEUE };

	if (q->sent - q->taken >= DEPTH)
		return;
	info.si_pid = getpid();
	info.si_value.sival_ptr = (void *)pattern(q->signal, q->sent++);
	if (q->to_thread)
		EXPECT_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), w->tid, q->signal, &info));
	else
		EXPECT_OK(syscall(SYS_rt_sigqueueinfo, getpid(), q->signal, &info));
}

static void receive(struct queue *q)
{
	siginfo_t info = take(q->signal);

	if (q->sent == q->taken) {
		EXPECT_EQ("a signal that nobody sent", info.si_signo, 0);
		return;
	}
	EXPECT(info.si_signo == q->signal, "signal %d: %llu were sent and %llu taken, and none waits", q->signal, (unsigned long long)q->sent,
	       (unsigned long long)q->taken);
	EXPECT_EQ("si_code", info.si_code, SI_QUEUE);
	EXPECT_EQ("si_pid", info.si_pid, getpid());
	EXPECT(info.si_value.sival_ptr == (void *)pattern(q->signal, q->taken), "signal %d: number %llu is not the next one", q->signal,
	       (unsigned long long)q->taken);
	q->taken++;
}

static void standard(struct worker *w)
{
	if (any(&w->chance, 2)) {
		EXPECT_OK(kill(getpid(), w->standard));
		w->waits = 1;
	} else {
		EXPECT_EQ("the standard signal", take(w->standard).si_signo, w->waits ? w->standard : 0);
		w->waits = 0;
	}
}

static void *work(void *argument)
{
	struct worker *w = argument;

	w->tid = (pid_t)syscall(SYS_gettid);
	while (!stop) {
		struct queue *q = &w->queues[any(&w->chance, 3)];
		uint64_t dice = any(&w->chance, 16);

		if (dice == 0)
			standard(w);
		else if (dice < 8)
			send(w, q);
		else if (dice < 15)
			receive(q);
		else
			pause_ms(any(&w->chance, 3));
	}
	for (int i = 0; i < 3; i++)
		for (int k = 0; k <= DEPTH; k++)
			receive(&w->queues[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	static const int usual[WORKERS] = { SIGUSR1, SIGUSR2, SIGHUP };
	static struct worker workers[WORKERS];
	pthread_t threads[WORKERS];
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	sigset_t all;

	begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < WORKERS; i++) {
		workers[i].chance = pattern(seed, i) | 1;
		workers[i].standard = usual[i];
		for (int k = 0; k < 3; k++)
			workers[i].queues[k] = (struct queue){ .signal = SIGRTMIN + 3 * i + k, .to_thread = k > 0 };
		threads[i] = start_thread(work, &workers[i]);
	}
	pause_ms(100);
	ready();
	await_check();
	stop = 1;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	passed();
}
