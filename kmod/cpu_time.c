// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * CPU time that has been used: of each thread, and of the process beside them. A thread's clock is what the scheduler adds up when it
 * leaves its CPU (se.sum_exec_runtime); that of a process, and its times, are those of its threads and of the ended ones (struct
 * signal_struct). getrusage(2) and the like divide the runtime as ticks have found it in the program and in the kernel, and never tell
 * less than before (cputime_adjust(), kernel/sched/cputime.c).
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched/cputime.h>
#include <linux/seqlock.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "migrate.h"

/* Whoever is stopped leaves its CPU within microseconds, or is kept from it by others for a while. */
#define TRIES 10000

bool is_on_cpu(const struct task_struct *task)
{
	/* In the order in which they change when it leaves: see try_to_wake_up(). */
	if (READ_ONCE(task->on_rq))
		return true;
#ifdef CONFIG_SMP
	smp_rmb();
	return READ_ONCE(task->on_cpu);
#else
	return false;
#endif
}

void read_cpu_time(struct migrate_cpu_time *to, const struct task_struct *task)
{
	/* Of one that has left its CPU before: what it had used then is there. */
	smp_rmb();
	*to = (struct migrate_cpu_time){
		.runtime = READ_ONCE(task->se.sum_exec_runtime),
		.user = READ_ONCE(task->utime),
		.system = READ_ONCE(task->stime),
		.shown_user = READ_ONCE(task->prev_cputime.utime),
		.shown_system = READ_ONCE(task->prev_cputime.stime),
	};
}

void read_process_time(struct migrate_process_time *to, const struct signal_struct *signal)
{
	*to = (struct migrate_process_time){
		.ended_runtime = READ_ONCE(signal->sum_sched_runtime),
		.ended_user = READ_ONCE(signal->utime),
		.ended_system = READ_ONCE(signal->stime),
		.shown_user = READ_ONCE(signal->prev_cputime.utime),
		.shown_system = READ_ONCE(signal->prev_cputime.stime),
		.children_user = READ_ONCE(signal->cutime),
		.children_system = READ_ONCE(signal->cstime),
	};
}

/* Adds up, as far as that goes; true when it is too much. */
static bool exceeds(u64 *sum, u64 more)
{
	if (more > MIGRATE_MOST_CPU_TIME || *sum + more > MIGRATE_MOST_CPU_TIME)
		return true;
	*sum += more;
	return false;
}

/*
 * Whether there would be too much of it, all of the process taken together, and what its threads have used until now on top of it: that
 * is little, in one that is being made. So nobody can make it more by and by.
 */
static bool is_too_much(const struct migrate_used *used, u32 count, const struct migrate_process_time *process, struct task_struct *first)
{
	u64 runtime = 0, ticks = 0, shown = 0, children = 0;
	struct task_struct *thread;
	bool is;
	u32 i;

	is = exceeds(&runtime, process->ended_runtime) || exceeds(&ticks, process->ended_user) ||
	     exceeds(&ticks, process->ended_system) || exceeds(&shown, process->shown_user) ||
	     exceeds(&shown, process->shown_system) || exceeds(&children, process->children_user) ||
	     exceeds(&children, process->children_system);
	for (i = 0; i < count && !is; i++) {
		const struct migrate_cpu_time *one = &used[i].used;

		shown = 0;
		is = exceeds(&runtime, one->runtime) || exceeds(&ticks, one->user) || exceeds(&ticks, one->system) ||
		     exceeds(&shown, one->shown_user) || exceeds(&shown, one->shown_system);
	}
	for_each_thread(first, thread)
		is = is || exceeds(&runtime, READ_ONCE(thread->se.sum_exec_runtime)) || exceeds(&ticks, READ_ONCE(thread->utime)) ||
		     exceeds(&ticks, READ_ONCE(thread->stime));
	return is;
}

static void set_shown(struct prev_cputime *shown, u64 user, u64 system)
{
	raw_spin_lock(&shown->lock);
	shown->utime = user;
	shown->stime = system;
	raw_spin_unlock(&shown->lock);
}

static void set_thread(struct task_struct *task, const struct migrate_cpu_time *used)
{
#ifdef CONFIG_TASK_XACCT
	/* How much memory it has used for how long is added up from here on. */
	task->acct_timexpd += used->user + used->system - task->utime - task->stime;
#endif
	/* What it has used since it got its CPU last is the difference of these. */
	task->se.prev_sum_exec_runtime += used->runtime - task->se.sum_exec_runtime;
	WRITE_ONCE(task->se.sum_exec_runtime, used->runtime);
	WRITE_ONCE(task->utime, used->user);
	WRITE_ONCE(task->stime, used->system);
	set_shown(&task->prev_cputime, used->shown_user, used->shown_system);
}

/* While there are timers of CPU time, the kernel goes by sums of its own; else they may be anything below (thread_group_start_cputime()). */
static void set_sums(struct signal_struct *signal, struct task_struct *first)
{
	struct task_cputime_atomic *sums = &signal->cputimer.cputime_atomic;
	u64 user = signal->utime, system = signal->stime, runtime = signal->sum_sched_runtime;
	struct task_struct *thread;

	for_each_thread(first, thread) {
		user += READ_ONCE(thread->utime);
		system += READ_ONCE(thread->stime);
		runtime += READ_ONCE(thread->se.sum_exec_runtime);
	}
	atomic64_set(&sums->utime, user);
	atomic64_set(&sums->stime, system);
	atomic64_set(&sums->sum_exec_runtime, runtime);
}

static void set_process(struct signal_struct *signal, const struct migrate_process_time *process)
{
	signal->sum_sched_runtime = process->ended_runtime;
	signal->utime = process->ended_user;
	signal->stime = process->ended_system;
	signal->cutime = process->children_user;
	signal->cstime = process->children_system;
	set_shown(&signal->prev_cputime, process->shown_user, process->shown_system);
}

static int try_to_set(struct task_struct **tasks, const struct migrate_used *used, const struct migrate_set_cpu_time *request,
		      struct task_struct *first)
{
	struct signal_struct *signal = first->signal;
	struct sighand_struct *sighand;
	unsigned long flags;
	int error = 0;
	u32 i;

	sighand = lock_sighand(first, &flags);
	if (!sighand)
		return -ESRCH;
	rcu_read_lock();
	for (i = 0; i < request->count && error != -ESRCH; i++) {
		if (rcu_access_pointer(tasks[i]->sighand) != sighand || !is_stopped_by_caller(tasks[i]))
			error = -ESRCH;
		else if (is_on_cpu(tasks[i]))
			error = -EAGAIN;
	}
	if (!error && is_too_much(used, request->count, &request->used, first))
		error = -EOVERFLOW;
	if (!error) {
		/* As when a thread ends (__exit_signal()): who adds them up meanwhile does it again. */
		write_seqlock(&signal->stats_lock);
		for (i = 0; i < request->count; i++)
			set_thread(tasks[i], &used[i].used);
		set_process(signal, &request->used);
		set_sums(signal, first);
		write_sequnlock(&signal->stats_lock);
	}
	rcu_read_unlock();
	unlock_sighand(sighand, flags);
	return error;
}

static int set_all(struct task_struct **tasks, const struct migrate_used *used, const struct migrate_set_cpu_time *request,
		   struct task_struct *first)
{
	int error, tries;
	u32 i;

	for (i = 0; i < request->count; i++) {
		if (used[i].reserved)
			return -EINVAL;
		tasks[i] = get_stopped(used[i].tid);
		if (IS_ERR(tasks[i])) {
			error = PTR_ERR(tasks[i]);
			tasks[i] = NULL;
			return error;
		}
		if (!same_thread_group(tasks[i], first))
			return -ESRCH;
	}
	for (tries = 0; tries < TRIES; tries++) {
		error = try_to_set(tasks, used, request, first);
		if (error != -EAGAIN || fatal_signal_pending(current))
			break;
		usleep_range(20, 100);
	}
	return error;
}

long set_cpu_time(const struct migrate_set_cpu_time __user *from)
{
	struct migrate_set_cpu_time request;
	struct task_struct *first, **tasks;
	struct migrate_used *used;
	long error;
	u32 i;

	if (copy_from_user(&request, from, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION || request.record_size != sizeof(*used))
		return -EPROTO;
	first = get_stopped(request.pid);
	if (IS_ERR(first))
		return PTR_ERR(first);
	error = -EINVAL;
	if (!request.count || request.count > get_nr_threads(first))
		goto put_first;
	used = vmemdup_user(u64_to_user_ptr(request.threads), request.count * sizeof(*used));
	error = PTR_ERR(used);
	if (IS_ERR(used))
		goto put_first;
	error = -ENOMEM;
	tasks = kvcalloc(request.count, sizeof(*tasks), GFP_KERNEL_ACCOUNT);
	if (!tasks)
		goto free_used;
	error = set_all(tasks, used, &request, first);
	for (i = 0; i < request.count && tasks[i]; i++)
		put_task_struct(tasks[i]);
	kvfree(tasks);
free_used:
	kvfree(used);
put_first:
	put_task_struct(first);
	return error;
}
