/* RDTSC faults in one thread of many, CPUID where the CPU can, and not in the others; with the time slice and I/O priority of that thread. */
#include "subject.h"
#include <asm/prctl.h>
#include <setjmp.h>

#ifndef ARCH_GET_CPUID
#define ARCH_GET_CPUID 0x1011
#define ARCH_SET_CPUID 0x1012
#endif
#define THREADS 20
#define ODD 11
#define BEST_EFFORT_6 (2 << 13 | 6)

static volatile int changed;
static int cpuid_traps;
static __thread sigjmp_buf back;

/* struct sched_attr */
struct attributes { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; };

static uint64_t slice_of(void)
{
	struct attributes attributes = { .size = sizeof attributes };

	EXPECT_OK(syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0));
	return attributes.runtime;
}

static void trapped(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

static int faults(void (*instruction)(void))
{
	if (sigsetjmp(back, 1))
		return 1;
	instruction();
	return 0;
}

static void rdtsc(void)
{
	__asm__ volatile("rdtsc" ::: "eax", "edx");
}

static void cpuid(void)
{
	unsigned a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
}

static void *thread(void *argument)
{
	int odd = (long)argument == ODD;
	uint64_t slice = slice_of();

	if (odd) {
		struct attributes attributes = { .size = sizeof attributes, .nice = 3, .runtime = 7000000 };

		NEED(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
		cpuid_traps = syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) == 0;
		NEED(syscall(SYS_ioprio_set, 1, 0, BEST_EFFORT_6) == 0);
		NEED(syscall(SYS_sched_setattr, 0, &attributes, 0) == 0);
		slice = slice_of();
	}
	__atomic_add_fetch(&changed, 1, __ATOMIC_SEQ_CST);
	/* The time would be read by RDTSC. */
	while (!check_wanted())
		syscall(SYS_nanosleep, &(struct timespec){ 0, 5000000 }, NULL);
	int flag = 0;
	EXPECT_OK(prctl(PR_GET_TSC, &flag));
	EXPECT_EQ("PR_GET_TSC", flag, odd ? PR_TSC_SIGSEGV : PR_TSC_ENABLE);
	EXPECT_EQ("RDTSC faults", faults(rdtsc), odd);
	EXPECT_EQ("CPUID faults", faults(cpuid), odd && cpuid_traps);
	EXPECT_EQ("I/O priority", syscall(SYS_ioprio_get, 1, 0), odd ? BEST_EFFORT_6 : 0);
	EXPECT_EQ("time slice", slice_of(), slice);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	begin(argc, argv);
	NEED(signal(SIGSEGV, trapped) != SIG_ERR);
	for (long i = 0; i < THREADS; i++)
		threads[i] = start_thread(thread, (void *)i);
	while (changed < THREADS)
		pause_ms(1);
	ready();
	await_check();
	EXPECT_EQ("RDTSC faults in the first thread", faults(rdtsc), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	passed();
}
