/* kmod-cpu_time: CPU time that has been used is told as it is, and set in whom the caller may, whole or not at all. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define SECOND 1000000000ULL
#define MS 1000000ULL
#define THREADS 3

static struct migrate_thread records[THREADS + 1];
static struct migrate_used used[THREADS + 1];
static pid_t tids[THREADS];
/* What the process does, and says of itself. */
static struct shared {
	volatile int tids[THREADS], go, told;
	volatile int64_t process, threads[THREADS];
	struct rusage own, first, children;
	volatile int limit;
} *shared;

static void burn(clockid_t clock, uint64_t ns)
{
	int64_t end = now(clock) + ns;

	while (now(clock) < end)
		;
}

static void *ends(void *unused)
{
	burn(CLOCK_THREAD_CPUTIME_ID, 20 * MS);
	return unused;
}

static void await(volatile int *what)
{
	while (!*what)
		usleep(1000);
}

static void *goes_on(void *argument)
{
	int i = (int)(intptr_t)argument;

	burn(CLOCK_THREAD_CPUTIME_ID, 10 * (i + 1) * MS);
	shared->tids[i] = syscall(SYS_gettid);
	await(&shared->go);
	shared->threads[i] = now(CLOCK_THREAD_CPUTIME_ID);
	if (i == 0)
		getrusage(RUSAGE_THREAD, &shared->first);
	__sync_fetch_and_add(&shared->told, 1);
	return argument;
}

static void on_limit(int signal)
{
	(void)signal;
	shared->limit++;
}

/* Three threads go on, one has ended, and so has a child; tells what it has used by its own clocks once it has been told to go on. */
static void be_looked_at(int limited)
{
	struct rlimit limit = { 2000, RLIM_INFINITY };
	pthread_t thread;
	pid_t pid;

	if (limited) {
		/* From here on the kernel goes by sums of its own. */
		signal(SIGXCPU, on_limit);
		setrlimit(RLIMIT_CPU, &limit);
	}
	pid = fork();
	if (pid == 0) {
		burn(CLOCK_THREAD_CPUTIME_ID, 20 * MS);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	pthread_create(&thread, NULL, ends, NULL);
	pthread_join(thread, NULL);
	for (intptr_t i = 1; i < THREADS; i++)
		pthread_create(&thread, NULL, goes_on, (void *)i);
	goes_on((void *)0);
	await(&shared->go);
	while (shared->told < THREADS)
		usleep(1000);
	shared->process = now(CLOCK_PROCESS_CPUTIME_ID);
	getrusage(RUSAGE_SELF, &shared->own);
	getrusage(RUSAGE_CHILDREN, &shared->children);
	/* The kernel looks from tick to tick. */
	burn(CLOCK_PROCESS_CPUTIME_ID, 50 * MS);
	_exit(0);
}

static uint64_t micros(struct timeval time)
{
	return time.tv_sec * 1000000ULL + time.tv_usec;
}

static struct migrate_read_threads look(pid_t pid)
{
	struct migrate_read_threads all = {
		.version = MIGRATE_VERSION, .record_size = sizeof *records, .pid = pid, .capacity = THREADS + 1, .records = (uint64_t)records,
	};

	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &all) == 0 && all.count == THREADS);
	return all;
}

static struct migrate_cpu_time *used_by(pid_t tid)
{
	for (int i = 0; i < THREADS; i++)
		if (records[i].tid == tid)
			return &records[i].used;
	wrong(__LINE__, "a thread is missing");
	return &records[0].used;
}

/* What the kernel itself shows of one that stands. */
static uint64_t runtime_shown(pid_t pid, pid_t tid)
{
	unsigned long long runtime = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, tid);
	file = fopen(path, "r");
	EXPECT(file && fscanf(file, "%llu", &runtime) == 1);
	if (file)
		fclose(file);
	return runtime;
}

static uint64_t process_clock(pid_t pid)
{
	clockid_t clock;

	EXPECT(clock_getcpuclockid(pid, &clock) == 0);
	return now(clock);
}

static void stop(pid_t tid)
{
	int status;

	EXPECT(ptrace(PTRACE_INTERRUPT, tid, NULL, 0) == 0 && waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status));
}

static pid_t begin(int limited)
{
	pid_t pid;

	memset(shared, 0, sizeof *shared);
	pid = fork();
	if (pid == 0)
		be_looked_at(limited);
	for (int i = 0; i < THREADS; i++) {
		await(&shared->tids[i]);
		tids[i] = shared->tids[i];
	}
	return pid;
}

static void refusals(pid_t pid, const struct migrate_set_cpu_time *good)
{
	struct migrate_set_cpu_time bad;
	pid_t other;
	int status;

#define REFUSED(error, ...) (bad = *good, __VA_ARGS__, FAILS_WITH(error, ioctl(device, MIGRATE_SET_CPU_TIME, &bad)))
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_SET_CPU_TIME, 8));
	REFUSED(EPROTO, bad.version = 1);
	REFUSED(EPROTO, bad.record_size = 40);
	REFUSED(EINVAL, bad.count = 0);
	REFUSED(EINVAL, bad.count = THREADS + 1);
	REFUSED(EINVAL, bad.count = UINT32_MAX);
	REFUSED(EFAULT, bad.threads = 8);
	REFUSED(EFAULT, bad.threads = 0xffffffff81000000);
	REFUSED(ESRCH, bad.pid = getpid());
	REFUSED(ESRCH, bad.pid = -1);
	REFUSED(EPERM, bad.pid = 2);
	used[1].reserved = 1;
	REFUSED(EINVAL, (void)0);
	used[1].reserved = 0;
	used[1].tid = 1; /* of another process, which it does not trace */
	REFUSED(ESRCH, (void)0);
	used[1].tid = tids[1];
	/* More than there may be, in one number and in their sum. */
	REFUSED(EOVERFLOW, bad.used.ended_runtime = MIGRATE_MOST_CPU_TIME + 1);
	REFUSED(EOVERFLOW, bad.used.ended_user = ~0ULL);
	REFUSED(EOVERFLOW, bad.used.ended_system = ~0ULL);
	REFUSED(EOVERFLOW, bad.used.shown_user = ~0ULL);
	REFUSED(EOVERFLOW, bad.used.shown_system = MIGRATE_MOST_CPU_TIME + 1);
	REFUSED(EOVERFLOW, bad.used.children_user = ~0ULL);
	REFUSED(EOVERFLOW, bad.used.children_system = ~0ULL);
	for (unsigned i = 0; i < sizeof used[2].used / sizeof(uint64_t); i++) {
		uint64_t *word = (uint64_t *)&used[2].used + i, before = *word;

		for (int large = 0; large < 2; large++) {
			*word = large ? ~0ULL : MIGRATE_MOST_CPU_TIME + 1;
			REFUSED(EOVERFLOW, (void)0);
		}
		*word = before;
	}
	used[1].used.runtime = used[2].used.runtime = MIGRATE_MOST_CPU_TIME / 2;
	REFUSED(EOVERFLOW, (void)0);
	used[1].used = used[2].used = (struct migrate_cpu_time){ .user = MIGRATE_MOST_CPU_TIME / 4, .system = MIGRATE_MOST_CPU_TIME / 4 };
	REFUSED(EOVERFLOW, (void)0);
	other = fork();
	if (other == 0) { /* another one than its tracer */
		failures = 0;
		REFUSED(ESRCH, (void)0);
		_exit(failures);
	}
	EXPECT(waitpid(other, &status, 0) == other && status == 0);
	/* One of them runs. */
	EXPECT(ptrace(PTRACE_CONT, tids[2], NULL, 0) == 0);
	REFUSED(ESRCH, (void)0);
	stop(tids[2]);
	(void)pid;
}

static void cpu_time(int limited)
{
	struct migrate_set_cpu_time set = { .version = MIGRATE_VERSION, .record_size = sizeof *used, .count = THREADS, .threads = (uint64_t)used };
	struct migrate_read_threads all, again;
	struct migrate_cpu_time before[THREADS];
	uint64_t sum;
	int status;
	pid_t pid = begin(limited);

	set.pid = pid;
	for (int i = 0; i < THREADS; i++)
		used[i] = (struct migrate_used){ .tid = tids[i] };
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_CPU_TIME, &set)); /* nobody traces it */
	for (int i = 0; i < THREADS; i++)
		EXPECT(ptrace(PTRACE_SEIZE, tids[i], NULL, 0) == 0);
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_CPU_TIME, &set)); /* it runs */
	for (int i = 0; i < THREADS; i++)
		stop(tids[i]);
	for (int i = 0; i < THREADS; i++) /* has left its CPU when this is answered */
		ptrace(PTRACE_PEEKUSER, tids[i], 0, NULL);

	all = look(pid);
	sum = all.used.ended_runtime;
	EXPECT(all.used.ended_runtime >= 20 * MS && all.used.ended_runtime < SECOND);
	EXPECT(all.used.children_user + all.used.children_system >= 10 * MS);
	for (int i = 0; i < THREADS; i++) {
		before[i] = *used_by(tids[i]);
		EXPECT((records[i].unusual & MIGRATE_IS_ON_CPU) == 0);
		EXPECT(before[i].runtime >= 10 * (i + 1) * MS && before[i].runtime == runtime_shown(pid, tids[i]));
		sum += before[i].runtime;
	}
	EXPECT(process_clock(pid) == sum);

	refusals(pid, &set);
	again = look(pid);
	EXPECT(memcmp(&all.used, &again.used, sizeof all.used) == 0);
	EXPECT(memcmp(&before[0], used_by(tids[0]), sizeof before[0]) == 0 && memcmp(&before[1], used_by(tids[1]), sizeof before[1]) == 0);

	/* As much as nothing, and then much: neither leaves anything of what was there. */
	for (int large = 0; large < 2; large++) {
		uint64_t unit = large ? SECOND : 1;

		set.used = (struct migrate_process_time){ 1500 * unit, 700 * unit, 300 * unit, 2600 * unit, 1400 * unit, 50 * unit, 60 * unit };
		sum = set.used.ended_runtime;
		for (int i = 0; i < THREADS; i++) {
			used[i].used = (struct migrate_cpu_time){ (1000 + i) * unit, 600 * unit, 400 * unit, 610 * unit, 390 * unit };
			sum += used[i].used.runtime;
		}
		EXPECT(ioctl(device, MIGRATE_SET_CPU_TIME, &set) == 0);
		again = look(pid);
		EXPECT(memcmp(&set.used, &again.used, sizeof set.used) == 0);
		for (int i = 0; i < THREADS; i++) {
			EXPECT(memcmp(&used[i].used, used_by(tids[i]), sizeof used[i].used) == 0);
			EXPECT(runtime_shown(pid, tids[i]) == used[i].used.runtime);
		}
		EXPECT(process_clock(pid) == sum);
	}
	/* Part of them, by any of them, and twice the same. */
	set.pid = tids[1];
	set.count = 2;
	used[1] = used[0];
	used[1].used.runtime = used[0].used.runtime += 7;
	EXPECT(ioctl(device, MIGRATE_SET_CPU_TIME, &set) == 0);
	sum += 7;
	EXPECT(process_clock(pid) == sum);

	for (int i = 0; i < THREADS; i++)
		EXPECT(ptrace(PTRACE_DETACH, tids[i], NULL, 0) == 0);
	shared->go = 1;
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT(shared->threads[i] > (int64_t)(1000 * SECOND) && shared->threads[i] < (int64_t)(1003 * SECOND));
	EXPECT(shared->process > (int64_t)sum && shared->process < (int64_t)(sum + SECOND));
	/* What was shown, and what has come since; not as the ticks would have it divided. */
	EXPECT(micros(shared->first.ru_utime) >= 610000000 && micros(shared->first.ru_utime) < 611000000);
	EXPECT(micros(shared->first.ru_stime) >= 390000000 && micros(shared->first.ru_stime) < 391000000);
	EXPECT(micros(shared->own.ru_utime) + micros(shared->own.ru_stime) >= sum / 1000 - 2);
	EXPECT(micros(shared->own.ru_utime) >= 2600000000 && micros(shared->own.ru_stime) >= 1400000000);
	EXPECT(micros(shared->children.ru_utime) == 50000000 && micros(shared->children.ru_stime) == 60000000);
	EXPECT(!limited == !shared->limit);
}

int main(void)
{
	open_device();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(shared != MAP_FAILED);
	cpu_time(0);
	cpu_time(1);
	printf("CPU time: %s\n", failures ? "wrong" : "as it is to be");
	return failures != 0;
}
