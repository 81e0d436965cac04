// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the kernel knows of every thread of a process, in one go. */
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/pid_namespace.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/seccomp.h>
#include <linux/siphash.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "migrate.h"

/* So that no address of the kernel's is told. */
static siphash_key_t secret;

void threads_init(void)
{
	get_random_bytes(&secret, sizeof(secret));
}

static void read_credentials(struct migrate_thread *record, const struct cred *cred)
{
	struct user_namespace *ns = current_user_ns();
	const struct group_info *groups = cred->group_info;
	int i;

	record->uid[0] = from_kuid_munged(ns, cred->uid);
	record->uid[1] = from_kuid_munged(ns, cred->euid);
	record->uid[2] = from_kuid_munged(ns, cred->suid);
	record->uid[3] = from_kuid_munged(ns, cred->fsuid);
	record->gid[0] = from_kgid_munged(ns, cred->gid);
	record->gid[1] = from_kgid_munged(ns, cred->egid);
	record->gid[2] = from_kgid_munged(ns, cred->sgid);
	record->gid[3] = from_kgid_munged(ns, cred->fsgid);
	record->securebits = cred->securebits;
	/* Since Linux 6.3 one number, before two halves: in memory the same. */
	memcpy(&record->inheritable, &cred->cap_inheritable, sizeof(u64));
	memcpy(&record->permitted, &cred->cap_permitted, sizeof(u64));
	memcpy(&record->effective, &cred->cap_effective, sizeof(u64));
	memcpy(&record->bounding, &cred->cap_bset, sizeof(u64));
	memcpy(&record->ambient, &cred->cap_ambient, sizeof(u64));
	record->group_count = groups->ngroups;
	for (i = 0; i < groups->ngroups && i < MIGRATE_GROUPS; i++)
		record->groups[i] = from_kgid_munged(ns, groups->gid[i]);
}

static void read_flags(struct migrate_thread *record, struct task_struct *task)
{
	bool traps = test_tsk_thread_flag(task, TIF_NOTSC) || test_tsk_thread_flag(task, TIF_NOCPUID) ||
		     test_tsk_thread_flag(task, TIF_SPEC_L1D_FLUSH);

	if (traps)
		record->unusual |= MIGRATE_TRAPS;
	if (test_tsk_thread_flag(task, TIF_IO_BITMAP))
		record->unusual |= MIGRATE_PORTS;
	if (test_task_syscall_work(task, SYSCALL_USER_DISPATCH))
		record->unusual |= MIGRATE_DISPATCHES;
	if (is_on_cpu(task))
		record->unusual |= MIGRATE_IS_ON_CPU;
	record->flags = READ_ONCE(task->flags);
	record->atomic_flags = READ_ONCE(task->atomic_flags);
}

static void read_seccomp(struct migrate_thread *record, struct task_struct *task)
{
#ifdef CONFIG_SECCOMP_FILTER
	unsigned long filter = (unsigned long)READ_ONCE(task->seccomp.filter);

	record->seccomp = READ_ONCE(task->seccomp.mode);
	if (filter)
		record->filters = siphash_1u64(filter, &secret);
#endif
}

/* That with which all are compared: the first thread, or if that has ended, the first that has not. */
static struct task_struct *not_ended(struct task_struct *target)
{
	struct task_struct *task;

	for_each_thread(target, task)
		if (READ_ONCE(task->fs))
			return task;
	return NULL;
}

static void read_parted(struct migrate_thread *record, struct task_struct *task, struct task_struct *first)
{
	if (!first || !READ_ONCE(first->fs) || !READ_ONCE(task->fs))
		return; /* it has ended */
	if (READ_ONCE(task->fs) != READ_ONCE(first->fs))
		record->parted |= MIGRATE_OWN_DIRECTORIES;
	if (READ_ONCE(task->files) != READ_ONCE(first->files))
		record->parted |= MIGRATE_OWN_DESCRIPTORS;
	if (READ_ONCE(task->nsproxy) != READ_ONCE(first->nsproxy))
		record->parted |= MIGRATE_OWN_NAMESPACES;
}

/* Called where RCU protects what is read. Nothing that is pointed at by a thread that may be ending is looked into. */
static void read_thread(struct migrate_thread *record, struct task_struct *task, struct task_struct *first)
{
	struct pid_namespace *ns = task_active_pid_ns(task);

	record->tid = task_pid_vnr(task);
	if (ns) { /* else it has been reaped */
		record->own_tid = task_pid_nr_ns(task, ns);
		record->own_pid = task_tgid_nr_ns(task, ns);
	}
	record->exit_state = READ_ONCE(task->exit_state);
	record->pending = READ_ONCE(task->pending.signal.sig[0]);
	record->shared_pending = READ_ONCE(task->signal->shared_pending.signal.sig[0]);
	record->clear_child_tid = (unsigned long)READ_ONCE(task->clear_child_tid);
	record->robust_list = (unsigned long)READ_ONCE(task->robust_list);
	record->stack_address = task->sas_ss_sp;
	record->stack_size = task->sas_ss_size;
	record->stack_flags = task->sas_ss_flags;
	record->personality = task->personality;
	record->timer_slack = task->timer_slack_ns;
	record->debug_control = task->thread.ptrace_dr7;
	record->parent_death_signal = task->pdeath_signal;
	/* It ends with a NUL, also while it is changed. */
	memcpy(record->name, task->comm, sizeof(record->name));
	read_flags(record, task);
	read_cpu_time(&record->used, task);
	read_seccomp(record, task);
	read_parted(record, task, first);
	read_credentials(record, __task_cred(task));
	record->wait = interrupted_in(task);
	if (record->wait != MIGRATE_WAIT_NONE)
		memcpy(record->restart, &task->restart_block.futex, sizeof(record->restart)); /* the largest of them */
}

long read_threads(struct migrate_read_threads __user *to, struct watch *watch)
{
	struct migrate_read_threads request;
	struct task_struct *target, *task, *first;
	struct migrate_thread *records;
	u32 room, written, count = 0;
	long error = 0;

	BUILD_BUG_ON(sizeof(records->name) != TASK_COMM_LEN);
	BUILD_BUG_ON(sizeof(kernel_cap_t) != sizeof(u64));
	BUILD_BUG_ON(sizeof(target->restart_block.futex) != sizeof(records->restart));
	if (copy_from_user(&request, to, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION || request.record_size != sizeof(*records))
		return -EPROTO;
	if (request.watched)
		return -EINVAL;
	target = get_target(request.pid);
	if (IS_ERR(target))
		return PTR_ERR(target);
	/* More may come until they are counted: what there is no room for is told. */
	room = min_t(u32, request.capacity, get_nr_threads(target) + 16);
	records = kvcalloc(max_t(u32, room, 1), sizeof(*records), GFP_KERNEL_ACCOUNT);
	if (!records) {
		put_target(target);
		return -ENOMEM;
	}
	rcu_read_lock();
	request.watched = watches(watch, target);
	first = not_ended(target);
	for_each_thread(target, task) {
		if (count < room) {
			read_thread(&records[count], task, first);
			if (request.watched)
				read_cut(&records[count], watch, task);
		}
		count++;
	}
	read_process_time(&request.used, target->signal);
	request.now = ktime_get_ns();
	request.boot_now = ktime_get_boottime_ns();
	rcu_read_unlock();
	put_target(target);
	request.count = count;
	written = min(count, room);
	if (copy_to_user(u64_to_user_ptr(request.records), records, written * sizeof(*records)) ||
	    copy_to_user(to, &request, sizeof(request)))
		error = -EFAULT;
	kvfree(records);
	return error;
}
