/*
 * POSIX timers of any kind, set to expire soon, some of them again and again, set anew and deleted, by threads that choose by chance.
 * Each time that one is set to expire once it does so, once; what it carries is its own.
 */
#include "timer.h"

#define WORKERS 3
#define TIMERS 12
#define MS 1000000LL

struct timer { int id, clock, notify, periodic; uint64_t value, retired, set, came; };

struct worker { uint64_t chance; pid_t tid; int signal; uint64_t values; struct timer timers[TIMERS]; };

static volatile int stop;

static void make(struct worker *w, struct timer *t)
{
	/* Nobody uses much CPU time here: of those clocks, timers are only kept. */
	int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI };

	t->clock = clocks[any(&w->chance, 5)];
	t->value = ++w->values << 8 | (uint64_t)(t - w->timers);
	t->notify = any(&w->chance, 6) == 0 ? SIGEV_NONE : SIGEV_THREAD_ID;
	t->id = make_timer(t->clock, t->notify, w->signal, t->value, w->tid);
	t->periodic = 0;
	t->set = t->came = 0;
}

static void receive(struct worker *w, long ms)
{
	siginfo_t info = take_signal(signals_from(w->signal, w->signal), ms);

	if (info.si_signo == 0)
		return;
	uint64_t value = (uint64_t)info.si_value.sival_ptr;
	struct timer *t = &w->timers[value & 255];
	if ((value & 255) < TIMERS && t->retired == value)
		return;
	EXPECT((value & 255) < TIMERS && t->value == value, "a signal with %llx, which no timer of this thread has", (unsigned long long)value);
	EXPECT(info.si_code == SI_TIMER && info.si_timerid == t->id, "si_code %d, timer %d instead of %d", info.si_code, info.si_timerid, t->id);
	if (t->periodic)
		return;
	t->came++;
	EXPECT(t->came <= t->set, "timer %d was set to expire %llu times, and did %llu times", t->id, (unsigned long long)t->set, (unsigned long long)t->came);
	EXPECT_EQ("times missed by one that expires once", info.si_overrun, 0);
}

/* Until all that have been set have expired. */
static void settle(struct worker *w, struct timer *t)
{
	for (int i = 0; i < 100 && t->came < t->set; i++)
		receive(w, 100);
	EXPECT(t->came == t->set, "timer %d of clock %d was set to expire %llu times, and did %llu times; %lld ns are left", t->id, t->clock,
	       (unsigned long long)t->set, (unsigned long long)t->came, (long long)to_ns(get_timer(t->id).it_value));
}

static void act(struct worker *w)
{
	struct timer *t = &w->timers[any(&w->chance, TIMERS)];
	uint64_t dice = any(&w->chance, 16);
	int64_t soon = 1 + any(&w->chance, dice < 4 ? 100000 : 30 * MS);
	struct timespec now;

	if (t->notify == SIGEV_NONE && dice < 12) {
		EXPECT_OK(set_timer(t->id, 0, soon, any(&w->chance, 2) * MS));
		return;
	}
	if (t->periodic && dice < 14) {
		/* Not set any more: what waits of it may come or not. */
		EXPECT_OK(set_timer(t->id, 0, 0, 0));
		EXPECT_OK(syscall(SYS_timer_delete, t->id));
		t->retired = t->value;
		make(w, t);
	} else if (dice < 10 && t->came == t->set) {
		clock_gettime(t->clock, &now);
		t->set++;
		if (any(&w->chance, 2))
			EXPECT_OK(set_timer(t->id, TIMER_ABSTIME, to_ns(now) + soon, 0));
		else
			EXPECT_OK(set_timer(t->id, 0, soon, 0));
	} else if (dice < 11 && !t->periodic && t->came == t->set) {
		t->periodic = 1;
		EXPECT_OK(set_timer(t->id, 0, soon, MS + any(&w->chance, 10 * MS)));
	} else if (dice == 14 && t->came == t->set && !t->periodic) {
		EXPECT_OK(syscall(SYS_timer_delete, t->id));
		make(w, t);
	} else {
		receive(w, any(&w->chance, 8));
	}
}

static void *work(void *argument)
{
	struct worker *w = argument;

	w->tid = (pid_t)syscall(SYS_gettid);
	for (int i = 0; i < TIMERS; i++)
		make(w, &w->timers[i]);
	while (!stop)
		act(w);
	for (int i = 0; i < TIMERS; i++)
		if (!w->timers[i].periodic && w->timers[i].notify != SIGEV_NONE)
			settle(w, &w->timers[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct worker workers[WORKERS];
	pthread_t threads[WORKERS];
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	sigset_t all;

	begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < WORKERS; i++) {
		workers[i].chance = pattern(seed, i) | 1;
		workers[i].signal = SIGRTMIN + i;
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
