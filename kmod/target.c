// SPDX-License-Identifier: MIT OR GPL-2.0
/* Whom a request may be about. */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/mm.h>

#include "migrate.h"

static struct task_struct *get_task(pid_t number)
{
	struct task_struct *task;
	struct pid *pid = find_get_pid(number);

	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	return task ? task : ERR_PTR(-ESRCH);
}

/* That of any thread: the first one may have ended before others. */
static struct mm_struct *get_memory(struct task_struct *task)
{
	struct mm_struct *mm = NULL;
	struct task_struct *thread;

	rcu_read_lock();
	for_each_thread(task, thread) {
		mm = get_task_mm(thread);
		if (mm)
			break;
	}
	rcu_read_unlock();
	return mm;
}

/*
 * CAP_SYS_PTRACE over the task's credentials and over its program, which may be one that its user may not read: that is what
 * ptrace_may_access() asks of somebody else than its owner. (Modules are not given that function.)
 */
static int may_look_into(struct task_struct *task)
{
	const struct cred *cred = get_task_cred(task);
	bool may = ns_capable(cred->user_ns, CAP_SYS_PTRACE);
	struct mm_struct *mm;

	put_cred(cred);
	if (!may)
		return -EPERM;
	if (task->flags & PF_KTHREAD)
		return -EPERM;
	mm = get_memory(task);
	if (!mm)
		return 0; /* it is ending, and its program is not to be seen any more */
	may = ns_capable(mm->user_ns, CAP_SYS_PTRACE);
	mmput(mm);
	return may ? 0 : -EPERM;
}

struct task_struct *get_target(pid_t number)
{
	struct task_struct *task = get_task(number);
	int error;

	if (IS_ERR(task))
		return task;
	error = down_read_killable(&task->signal->exec_update_lock);
	if (error) {
		put_task_struct(task);
		return ERR_PTR(error);
	}
	error = may_look_into(task);
	if (!error)
		return task;
	put_target(task);
	return ERR_PTR(error);
}

void put_target(struct task_struct *task)
{
	up_read(&task->signal->exec_update_lock);
	put_task_struct(task);
}

bool is_stopped_by_caller(struct task_struct *task)
{
	bool is;

	rcu_read_lock();
	is = task->ptrace && rcu_dereference(task->parent) == current && task_is_traced(task);
	rcu_read_unlock();
	return is;
}

static int must_be_stopped(struct task_struct *task)
{
	struct sighand_struct *sighand;
	unsigned long flags;
	bool is;

	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return -ESRCH;
	is = is_stopped_by_caller(task);
	unlock_sighand(sighand, flags);
	return is ? 0 : -ESRCH;
}

struct task_struct *get_stopped(pid_t number)
{
	struct task_struct *task = get_task(number);
	int error;

	if (IS_ERR(task))
		return task;
	error = may_look_into(task);
	if (!error)
		error = must_be_stopped(task);
	if (!error)
		return task;
	put_task_struct(task);
	return ERR_PTR(error);
}

struct sighand_struct *lock_sighand(struct task_struct *task, unsigned long *flags)
{
	struct sighand_struct *sighand;

	rcu_read_lock();
	for (;;) {
		sighand = rcu_dereference(task->sighand);
		if (!sighand)
			break;
		/* Its memory may be used for another one's at any time, but then still is a lock: see __lock_task_sighand(). */
		spin_lock_irqsave(&sighand->siglock, *flags);
		if (sighand == rcu_access_pointer(task->sighand))
			break;
		spin_unlock_irqrestore(&sighand->siglock, *flags);
	}
	rcu_read_unlock();
	return sighand;
}

void unlock_sighand(struct sighand_struct *sighand, unsigned long flags)
{
	spin_unlock_irqrestore(&sighand->siglock, flags);
}
