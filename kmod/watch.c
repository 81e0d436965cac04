// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * When waits of a process would have ended that something has cut short. Of some the kernel notes nothing else (epoll_wait,
 * rt_sigtimedwait): whoever waits for a time has a timer on its stack, and takes it back when it is woken before that.
 */
#include <linux/hrtimer.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>

#include "migrate.h"

/* Threads that are remembered; those that find no place are not. */
#define FEWEST 256
#define MOST 65536
#define STEPS 16

struct cut {
	pid_t tid; /* in the initial PID namespace; 0: free */
	u64 end, at, count;
};

struct watch {
	struct pid *process;
	u32 mask;
	struct cut cuts[];
};

static struct tracepoint *cancelled;

static void find(struct tracepoint *tracepoint, void *unused)
{
	if (!strcmp(tracepoint->name, "hrtimer_cancel"))
		cancelled = tracepoint;
}

void watch_init(void)
{
	for_each_kernel_tracepoint(find, NULL);
}

bool can_watch(void)
{
	return cancelled;
}

/* The place of a thread. Only the thread itself takes one, and writes there. */
static struct cut *place(struct watch *watch, pid_t tid, bool take)
{
	u32 step;

	for (step = 0; step < STEPS; step++) {
		struct cut *cut = &watch->cuts[(tid + step) & watch->mask];
		pid_t there = READ_ONCE(cut->tid);

		if (there == tid)
			return cut;
		if (there)
			continue;
		if (!take)
			return NULL;
		there = cmpxchg(&cut->tid, 0, tid);
		if (!there)
			return cut;
	}
	return NULL;
}

/* A timer is taken back, under a lock of the kernel's timers: nothing here may wait, or have a timer set. */
static void note(void *data, struct hrtimer *timer)
{
	struct watch *watch = data;
	struct cut *cut;
	u64 now, end;

	if (task_tgid(current) != watch->process || !object_is_on_stack(timer))
		return;
	now = ktime_get_ns();
	end = ktime_to_ns(hrtimer_get_softexpires(timer));
	switch (timer->base->clockid) {
	case CLOCK_MONOTONIC:
		break;
	case CLOCK_BOOTTIME:
		end -= ktime_get_boottime_ns() - now;
		break;
	default:
		return;
	}
	cut = place(watch, current->pid, true);
	if (!cut)
		return;
	WRITE_ONCE(cut->end, end);
	WRITE_ONCE(cut->at, now);
	WRITE_ONCE(cut->count, cut->count + 1);
}

struct watch *begin_watch(struct task_struct *task)
{
	u32 places = clamp_t(u32, 4 * get_nr_threads(task), FEWEST, MOST);
	struct watch *watch;
	int error;

	if (!cancelled)
		return ERR_PTR(-EOPNOTSUPP);
	places = roundup_pow_of_two(places);
	watch = kvzalloc(struct_size(watch, cuts, places), GFP_KERNEL_ACCOUNT);
	if (!watch)
		return ERR_PTR(-ENOMEM);
	watch->mask = places - 1;
	watch->process = get_pid(task_tgid(task));
	error = watch->process ? tracepoint_probe_register(cancelled, note, watch) : -ESRCH;
	if (!error)
		return watch;
	put_pid(watch->process);
	kvfree(watch);
	return ERR_PTR(error);
}

void end_watch(struct watch *watch)
{
	tracepoint_probe_unregister(cancelled, note, watch);
	tracepoint_synchronize_unregister();
	put_pid(watch->process);
	kvfree(watch);
}

bool watches(const struct watch *watch, struct task_struct *task)
{
	return watch && watch->process == task_tgid(task);
}

void read_cut(struct migrate_thread *to, struct watch *watch, const struct task_struct *task)
{
	const struct cut *cut = place(watch, task->pid, false);

	if (!cut)
		return;
	to->cuts = READ_ONCE(cut->count);
	to->cut_end = READ_ONCE(cut->end);
	to->cut_at = READ_ONCE(cut->at);
}
