/* Nice values, policies and CPU affinity, each thread's own; timer slack. */
#include "subject.h"
#include <sys/resource.h>

struct sched { int nice, policy; cpu_set_t cpus; int slack; };

static struct sched now(void)
{
	struct sched now = { .policy = sched_getscheduler(0), .slack = prctl(PR_GET_TIMERSLACK) };

	errno = 0;
	now.nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
	EXPECT(errno == 0, "getpriority: %s", strerror(errno));
	EXPECT_OK(sched_getaffinity(0, sizeof now.cpus, &now.cpus));
	return now;
}

static void expect_same(const char *who, struct sched before)
{
	struct sched after = now();

	EXPECT(after.nice == before.nice, "%s: nice: expected %d, got %d", who, before.nice, after.nice);
	EXPECT(after.policy == before.policy, "%s: policy: expected %d, got %d", who, before.policy, after.policy);
	EXPECT(after.slack == before.slack, "%s: timer slack: expected %d, got %d", who, before.slack, after.slack);
	EXPECT(CPU_EQUAL(&after.cpus, &before.cpus), "%s: affinity changed", who);
}

static volatile int changed;

static void *thread(void *unused)
{
	struct sched_param none = { 0 };

	(void)unused;
	NEED(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 11) == 0);
	NEED(sched_setscheduler(0, SCHED_BATCH, &none) == 0);
	NEED(prctl(PR_SET_TIMERSLACK, 123456) == 0);
	struct sched before = now();
	changed++;
	await_check();
	expect_same("thread", before);
	return NULL;
}

int main(int argc, char **argv)
{
	cpu_set_t cpus, one;

	begin(argc, argv);
	NEED(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
	pthread_t other = start_thread(thread, NULL);
	while (!changed)
		pause_ms(1);
	/* The last CPU that there is. */
	CPU_ZERO(&one);
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--)
		if (CPU_ISSET(cpu, &cpus)) {
			CPU_SET(cpu, &one);
			break;
		}
	NEED(sched_setaffinity(0, sizeof one, &one) == 0);
	NEED(setpriority(PRIO_PROCESS, 0, 5) == 0);
	struct sched before = now();
	ready();
	await_check();
	expect_same("process", before);
	pthread_join(other, NULL);
	passed();
}
