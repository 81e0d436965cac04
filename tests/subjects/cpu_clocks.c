/*
 * CPU time goes on from what was used, to the nanosecond: of the process, of each thread, of one that has ended and of a child that has,
 * by clocks and by getrusage(2); a timer for a point of it expires there, and RLIMIT_CPU is what it was.
 */
#include "subject.h"
#include "timer.h"
#include <sys/resource.h>
#include <sys/times.h>

#define COUNT 20
#define MS 1000000LL
#define FAR (60 * 1000 * MS)

/* As ticks find it: in the program and the kernel, or (+ 1) in the program alone. */
#define PROCESS_TICKS ((clockid_t)-8)
#define THREAD_TICKS ((clockid_t)-4)

struct used {
	int64_t clock, ticks, user_ticks, user, system;
};

static struct used own_before[COUNT];
static volatile int noted, looked;
static volatile sig_atomic_t expired;

static int64_t to_us(struct timeval time)
{
	return time.tv_sec * 1000000LL + time.tv_usec;
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return to_ns(now);
}

static struct used used(clockid_t clock, int who)
{
	struct rusage usage;
	clockid_t ticks = who == RUSAGE_THREAD ? THREAD_TICKS : PROCESS_TICKS;
	struct used used = { .clock = now_ns(clock), .ticks = now_ns(ticks), .user_ticks = now_ns(ticks + 1) };

	getrusage(who, &usage);
	used.user = to_us(usage.ru_utime);
	used.system = to_us(usage.ru_stime);
	return used;
}

/* In the program, and in the kernel. */
static void burn(clockid_t clock, int64_t ns)
{
	int64_t end = now_ns(clock) + ns;

	while (now_ns(clock) < end)
		getppid();
}

/* Not less than it was, and not much more: no thread has computed for longer than this. */
static void expect_on(const char *what, int number, struct used before, struct used after, int64_t most)
{
	EXPECT(after.clock >= before.clock, "%s %d: its clock showed %lld ns, and shows %lld", what, number, (long long)before.clock,
	       (long long)after.clock);
	EXPECT(after.clock < before.clock + most, "%s %d: its clock showed %lld ns, and shows %lld: that is too much", what, number,
	       (long long)before.clock, (long long)after.clock);
	EXPECT(after.ticks >= before.ticks && after.user_ticks >= before.user_ticks, "%s %d: ticks had found %lld ns, %lld in the program, and now %lld, %lld",
	       what, number, (long long)before.ticks, (long long)before.user_ticks, (long long)after.ticks, (long long)after.user_ticks);
	EXPECT(after.user >= before.user && after.system >= before.system, "%s %d: it had used %lld + %lld us, and has %lld + %lld", what, number,
	       (long long)before.user, (long long)before.system, (long long)after.user, (long long)after.system);
}

static void *computes(void *number)
{
	int i = (int)(uintptr_t)number;

	burn(CLOCK_THREAD_CPUTIME_ID, (i + 1) * MS);
	own_before[i] = used(CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD);
	__atomic_add_fetch(&noted, 1, __ATOMIC_SEQ_CST);
	await_check();
	struct used after = used(CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD);
	expect_on("thread", i, own_before[i], after, FAR);
	EXPECT(after.user + after.system >= after.clock / 1000 - 100000, "thread %d: getrusage tells %lld us, and its clock %lld ns", i,
	       (long long)(after.user + after.system), (long long)after.clock);
	burn(CLOCK_THREAD_CPUTIME_ID, MS);
	EXPECT(now_ns(CLOCK_THREAD_CPUTIME_ID) >= after.clock + MS, "thread %d: its clock does not go on", i);
	__atomic_add_fetch(&looked, 1, __ATOMIC_SEQ_CST);
	return number;
}

static void *ends(void *nothing)
{
	burn(CLOCK_THREAD_CPUTIME_ID, 100 * MS);
	return nothing;
}

static void on_expiry(int signal)
{
	(void)signal;
	expired++;
}

int main(int argc, char **argv)
{
	struct rlimit limit = { 3600, 7200 }, limit_after;
	pthread_t threads[COUNT];
	struct tms times_before, times_after;

	begin(argc, argv);
	if (access("/dev/migrate", F_OK) != 0)
		skipped("it begins at 0 where there is no kernel module (docs/kmod.md)");
	NEED(setrlimit(RLIMIT_CPU, &limit) == 0 && signal(SIGRTMIN, on_expiry) != SIG_ERR);
	pid_t child = fork();
	NEED(child >= 0);
	if (child == 0) {
		burn(CLOCK_PROCESS_CPUTIME_ID, 100 * MS);
		_exit(0);
	}
	NEED(waitpid(child, NULL, 0) == child);
	pthread_join(start_thread(ends, NULL), NULL);
	for (uintptr_t i = 0; i < COUNT; i++)
		threads[i] = start_thread(computes, (void *)i);
	while (noted < COUNT)
		pause_ms(1);
	burn(CLOCK_THREAD_CPUTIME_ID, 30 * MS);
	/* For a point of the process's time, and one of this thread's. */
	int64_t point = now_ns(CLOCK_PROCESS_CPUTIME_ID) + FAR;
	int timer = make_timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN, 0, 0);
	NEED(set_timer(timer, TIMER_ABSTIME, point, 0) == 0);
	NEED(times(&times_before) != (clock_t)-1);
	struct used process = used(CLOCK_PROCESS_CPUTIME_ID, RUSAGE_SELF), own = used(CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD);
	struct used children = used(CLOCK_PROCESS_CPUTIME_ID, RUSAGE_CHILDREN);
	ready();
	await_check();

	while (looked < COUNT)
		pause_ms(1);
	expect_on("the first thread", 0, own, used(CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD), FAR);
	expect_on("the process", 0, process, used(CLOCK_PROCESS_CPUTIME_ID, RUSAGE_SELF), FAR);
	struct used children_after = used(CLOCK_PROCESS_CPUTIME_ID, RUSAGE_CHILDREN);
	EXPECT_EQ("its children's time in the program", children_after.user, children.user);
	EXPECT_EQ("its children's time in the kernel", children_after.system, children.system);
	NEED(times(&times_after) != (clock_t)-1);
	EXPECT(times_after.tms_utime >= times_before.tms_utime && times_after.tms_stime >= times_before.tms_stime, "times(2) has gone back");
	EXPECT_EQ("its children's time by times(2)", times_after.tms_cutime, times_before.tms_cutime);
	EXPECT_OK(getrlimit(RLIMIT_CPU, &limit_after));
	EXPECT(limit_after.rlim_cur == limit.rlim_cur && limit_after.rlim_max == limit.rlim_max, "the limits are %llu and %llu",
	       (unsigned long long)limit_after.rlim_cur, (unsigned long long)limit_after.rlim_max);

	/* How far it is to that point is what its clock lacks of it. */
	int64_t left = to_ns(get_timer(timer).it_value), shown = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	EXPECT(left - (point - shown) < 100 * MS && left - (point - shown) > -100 * MS, "%lld ns are left, and the clock shows %lld of %lld",
	       (long long)left, (long long)shown, (long long)point);
	EXPECT_EQ("expired", expired, 0);
	EXPECT(set_timer(timer, TIMER_ABSTIME, shown + 50 * MS, 0) == 0, "timer_settime: %s", strerror(errno));
	burn(CLOCK_PROCESS_CPUTIME_ID, 20 * MS);
	EXPECT_EQ("expired 20 ms later", expired, 0);
	while (!expired && now_ns(CLOCK_PROCESS_CPUTIME_ID) < shown + FAR)
		;
	EXPECT_EQ("expired 50 ms later", expired, 1);
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], NULL);
	passed();
}
