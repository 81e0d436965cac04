// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the kernel knows of a process as a whole. */
#include <linux/err.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/posix-timers.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "migrate.h"

/* More than any limit on queued signals lets a process have, by far; a request for more is cut. */
#define MOST_TIMERS 1048576

static u64 not_negative(s64 ns)
{
	return ns > 0 ? ns : 0;
}

static u64 left_of(struct hrtimer *timer)
{
	return not_negative(ktime_to_ns(__hrtimer_get_remaining(timer, false)));
}

static void read_actions(struct migrate_read_process *to, const struct sighand_struct *sighand)
{
	int i;

	BUILD_BUG_ON(ARRAY_SIZE(to->actions) != _NSIG);
	for (i = 0; i < _NSIG; i++) {
		const struct sigaction *action = &sighand->action[i].sa;

		to->actions[i] = (struct migrate_action){
			.handler = (unsigned long)action->sa_handler,
			.flags = action->sa_flags,
			.restorer = (unsigned long)action->sa_restorer,
			.mask = action->sa_mask.sig[0],
		};
	}
}

static void read_intervals(struct migrate_read_process *to, struct signal_struct *signal)
{
	const struct task_cputime_atomic *used = &signal->cputimer.cputime_atomic;
	u64 user = atomic64_read(&used->utime), system = atomic64_read(&used->stime);
	const u64 now[] = { user, user + system };
	static const int clocks[] = { CPUCLOCK_VIRT, CPUCLOCK_PROF };
	int i;

	/* One that has expired and is about to be set again has an end. */
	if (hrtimer_active(&signal->real_timer))
		to->intervals[0].left = max_t(u64, left_of(&signal->real_timer), 1);
	to->intervals[0].interval = ktime_to_ns(signal->it_real_incr);
	for (i = 0; i < 2; i++) {
		const struct cpu_itimer *timer = &signal->it[clocks[i]];

		to->intervals[i + 1].interval = timer->incr;
		if (timer->expires)
			to->intervals[i + 1].left = timer->expires > now[i] ? timer->expires - now[i] : 1;
	}
}

static void read_timer(struct migrate_timer *to, struct k_itimer *timer)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	const struct kernel_siginfo *info = &timer->sigq->info;
#else
	const struct kernel_siginfo *info = &timer->sigq.info;
#endif

	to->id = timer->it_id;
	to->clock = timer->it_clock;
	to->notify = timer->it_sigev_notify;
	to->signal = info->si_signo;
	to->value = (unsigned long)info->si_ptr;
	to->interval = ktime_to_ns(timer->it_interval);
	to->missed = timer->it_overrun;
	to->missed_last = timer->it_overrun_last;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	/* Odd: its signal has been sent, and it is to be set again when that is taken. */
	if (timer->it_requeue_pending & 1)
		to->state |= MIGRATE_TIMER_SIGNAL_WAITS;
#endif
	switch (timer->it_clock) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
	case CLOCK_TAI:
		to->left = left_of(&timer->it.real.timer);
		break;
	default:
		to->state |= MIGRATE_TIMER_NOT_READ;
	}
}

/* Timers come and go under the lock of the signals' handlers, which the caller holds, and are freed by RCU. Returns how many there are. */
static u32 read_timers(struct migrate_timer *to, u32 room, struct signal_struct *signal)
{
	struct k_itimer *timer;
	u32 count = 0;

#ifdef TIMERS_ARE_HASHED
	hlist_for_each_entry(timer, &signal->posix_timers, list) {
#else
	list_for_each_entry(timer, &signal->posix_timers, list) {
#endif
		/* One that is being made is not known by its number yet. */
		if (!((unsigned long)READ_ONCE(timer->it_signal) & ~1UL))
			continue;
		if (count < room)
			read_timer(&to[count], timer);
		count++;
	}
	return count;
}

static int read_all(struct migrate_read_process *to, struct migrate_timer *timers, u32 room, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct sighand_struct *sighand;
	unsigned long flags;

	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return -ESRCH;
	read_actions(to, sighand);
	read_intervals(to, signal);
	to->shared_pending = signal->shared_pending.signal.sig[0];
	to->count = read_timers(timers, room, signal);
#ifdef NEXT_TIMER
	to->next_timer = signal->NEXT_TIMER & INT_MAX;
#else
	to->next_timer = -1;
#endif
#ifdef CONFIG_SYSVIPC
	if (READ_ONCE(task->sysvsem.undo_list))
		to->has |= MIGRATE_MAY_UNDO;
#endif
	unlock_sighand(sighand, flags);
	return 0;
}

static int read_into(struct migrate_read_process *to, struct migrate_timer *timers, u32 room)
{
	struct task_struct *task = get_target(to->pid);
	struct mm_struct *mm;
	int error;

	if (IS_ERR(task))
		return PTR_ERR(task);
	error = -ESRCH;
	mm = get_task_mm(task);
	if (mm) {
		spin_lock(&mm->arg_lock);
		to->brk_start = mm->start_brk;
		to->brk = mm->brk;
		spin_unlock(&mm->arg_lock);
		mmput(mm);
		error = read_all(to, timers, room, task);
	}
	put_target(task);
	return error;
}

long read_process(struct migrate_read_process __user *to)
{
	struct migrate_timer *timers = NULL;
	struct migrate_read_process *all;
	u32 room;
	long error;

	all = memdup_user(to, sizeof(*all));
	if (IS_ERR(all))
		return PTR_ERR(all);
	error = -EPROTO;
	if (all->version != MIGRATE_VERSION || all->record_size != sizeof(*timers))
		goto out;
	error = -EINVAL;
	if (all->reserved)
		goto out;
	room = min_t(u32, all->capacity, MOST_TIMERS);
	*all = (struct migrate_read_process){
		.version = all->version,
		.record_size = all->record_size,
		.pid = all->pid,
		.capacity = all->capacity,
		.timers = all->timers,
	};
	error = -ENOMEM;
	timers = kvcalloc(max_t(u32, room, 1), sizeof(*timers), GFP_KERNEL_ACCOUNT);
	if (!timers)
		goto out;
	error = read_into(all, timers, room);
	if (error)
		goto out;
	error = -EFAULT;
	if (copy_to_user(u64_to_user_ptr(all->timers), timers, (size_t)min(all->count, room) * sizeof(*timers)))
		goto out;
	if (copy_to_user(to, all, sizeof(*all)))
		goto out;
	error = 0;
out:
	kvfree(timers);
	kfree(all);
	return error;
}
