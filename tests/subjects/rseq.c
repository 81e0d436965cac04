/* glibc's registration of restartable sequences still works in every thread: the CPU numbers in it are kept right. */
#include "subject.h"
#include <sys/rseq.h>

static void expect_right(const char *when)
{
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	cpu_set_t before, one;

	EXPECT_OK(sched_getaffinity(0, sizeof before, &before));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		unsigned int real;

		if (!CPU_ISSET(cpu, &before))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		EXPECT_OK(sched_setaffinity(0, sizeof one, &one));
		EXPECT_OK(syscall(SYS_getcpu, &real, NULL, NULL));
		EXPECT(real == (unsigned int)cpu, "%s: running on CPU %u, not %d", when, real, cpu);
		EXPECT(((volatile struct rseq *)area)->cpu_id == real, "%s: rseq says CPU %d, running on %u", when,
		       (int)area->cpu_id, real);
	}
	EXPECT_OK(sched_setaffinity(0, sizeof before, &before));
	/* Registered already: a second registration at the same place is refused as busy. */
	EXPECT(syscall(SYS_rseq, area, 32, 0, 0x53053053) == -1 && errno == EBUSY, "%s: registering again: %s", when,
	       strerror(errno));
}

static void *thread(void *unused)
{
	(void)unused;
	expect_right("thread, before");
	await_check();
	expect_right("thread, after");
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (__rseq_size == 0)
		skipped("the C library registered no rseq");
	expect_right("before");
	pthread_t other = start_thread(thread, NULL);
	pause_ms(20);
	ready();
	await_check();
	expect_right("after");
	pthread_join(other, NULL);
	passed();
}
