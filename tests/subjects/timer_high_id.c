/* POSIX timers far apart: their IDs, also higher ones than can be counted up to. */
#include "timer.h"
#include <sys/prctl.h>

/* Since Linux 6.16. */
#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77
#endif

/* The kernel gives IDs in order. */
static void make_with(int id)
{
	int chosen = prctl(PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0) == 0;
	struct sigevent event = { .sigev_notify = SIGEV_NONE };
	int got = id;

	for (;;) {
		NEED(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &got) == 0);
		if (got == id)
			break;
		NEED(got < id);
		NEED(syscall(SYS_timer_delete, got) == 0);
		got = id;
	}
	if (chosen)
		NEED(prctl(PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0) == 0);
	NEED(set_timer(id, 0, 1000000000000, 0) == 0);
}

int main(int argc, char **argv)
{
	static const int ids[] = { 0, 1, 5, 300, 301, 60000, 60001 };
	static char before[4096], after[4096];

	begin(argc, argv);
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		make_with(ids[i]);
	read_whole("/proc/self/timers", before, sizeof before - 1);
	ready();
	await_check();
	read_whole("/proc/self/timers", after, sizeof after - 1);
	EXPECT(strcmp(before, after) == 0, "were:\n%s\nare:\n%s", before, after);
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		EXPECT(get_timer(ids[i]).it_value.tv_sec > 800, "timer %d", ids[i]);
	passed();
}
