// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the kernel knows of POSIX timers, also how often they have been missed, which it tells programs only afterwards. */
#include <linux/err.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/posix-timers.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "migrate.h"

/* More than any limit on queued signals lets a process have, by far; a request for more is cut. */
#define MOST_TIMERS 1048576

#ifdef TIMERS_ARE_HASHED
#define for_each_timer(timer, signal) hlist_for_each_entry(timer, &(signal)->posix_timers, list)
#else
#define for_each_timer(timer, signal) list_for_each_entry(timer, &(signal)->posix_timers, list)
#endif

/* One that is being made is not known by its number yet. */
static bool is_made(const struct k_itimer *timer)
{
	return (unsigned long)READ_ONCE(timer->it_signal) & ~1UL;
}

/* As timer_gettime(2) goes about it (common_timer_get(), kernel/time/posix-timers.c), but that nothing is moved on. */
static void read_timer(struct migrate_timer *to, struct k_itimer *timer)
{
	to->id = timer->it_id;
	to->interval = ktime_to_ns(timer->it_interval);
	to->missed = timer->it_overrun;
	to->missed_last = timer->it_overrun_last;
	switch (timer->it_clock) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
	case CLOCK_TAI:
		/* One that does not notify is never active. */
		if (!timer->it_interval && !timer->it_active && timer->it_sigev_notify != SIGEV_NONE)
			break;
		to->state |= MIGRATE_TIMER_IS_SET;
		to->left = ktime_to_ns(__hrtimer_get_remaining(&timer->it.real.timer, false));
		break;
	default:
		to->state |= MIGRATE_TIMER_NOT_READ;
	}
}

/* Timers come and go under the lock of the signals' handlers. Returns how many there are. */
static u32 read_all(struct migrate_timer *to, u32 room, struct signal_struct *signal)
{
	struct k_itimer *timer;
	u32 count = 0;

	for_each_timer(timer, signal) {
		if (!is_made(timer))
			continue;
		if (count < room)
			read_timer(&to[count], timer);
		count++;
	}
	return count;
}

static int read_into(struct migrate_read_timers *to, struct migrate_timer *timers, u32 room)
{
	struct task_struct *task = get_target(to->pid);
	struct sighand_struct *sighand;
	unsigned long flags;

	if (IS_ERR(task))
		return PTR_ERR(task);
	sighand = lock_sighand(task, &flags);
	if (sighand) {
		to->count = read_all(timers, room, task->signal);
		unlock_sighand(sighand, flags);
	}
	put_target(task);
	return sighand ? 0 : -ESRCH;
}

long read_timers(struct migrate_read_timers __user *to)
{
	struct migrate_read_timers request;
	struct migrate_timer *timers;
	u32 room;
	long error;

	if (copy_from_user(&request, to, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION || request.record_size != sizeof(*timers))
		return -EPROTO;
	if (request.reserved)
		return -EINVAL;
	room = min_t(u32, request.capacity, MOST_TIMERS);
	timers = kvcalloc(max_t(u32, room, 1), sizeof(*timers), GFP_KERNEL_ACCOUNT);
	if (!timers)
		return -ENOMEM;
	error = read_into(&request, timers, room);
	if (!error && (copy_to_user(u64_to_user_ptr(request.timers), timers, (size_t)min(request.count, room) * sizeof(*timers)) ||
		       copy_to_user(to, &request, sizeof(request))))
		error = -EFAULT;
	kvfree(timers);
	return error;
}

static long set_one(struct task_struct *task, const struct migrate_set_missed *request)
{
	struct sighand_struct *sighand;
	struct k_itimer *timer;
	unsigned long flags;
	long error = -EINVAL;

	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return -ESRCH;
	for_each_timer(timer, task->signal) {
		if (timer->it_id != request->id || !is_made(timer))
			continue;
		/* Else only the process itself writes it: when it sets the timer, or takes its signal. */
		WRITE_ONCE(timer->it_overrun_last, request->missed_last);
		error = 0;
		break;
	}
	unlock_sighand(sighand, flags);
	return error;
}

long set_missed(const struct migrate_set_missed __user *from)
{
	struct migrate_set_missed request;
	struct task_struct *task;
	long error;

	if (copy_from_user(&request, from, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION)
		return -EPROTO;
	if (request.reserved || request.missed_last < 0 || request.missed_last > INT_MAX)
		return -EINVAL;
	task = get_stopped(request.pid);
	if (IS_ERR(task))
		return PTR_ERR(task);
	error = set_one(task, &request);
	put_task_struct(task);
	return error;
}
