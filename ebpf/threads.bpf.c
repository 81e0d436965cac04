/*
 * What the kernel knows of each thread of a process, all of them in one read: without it, each thread has to be asked
 * by text files and by calls made inside it.
 *
 * Linux 6.1 and later.
 */
#include "kernel.h"

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct group_info {
	int ngroups;
	kgid_t gid[1];
} KERNEL_MEMBERS;

/* Since 6.3 one u64, before two u32: in memory the same. */
typedef struct {
	u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
	unsigned int securebits;
	kernel_cap_t cap_inheritable, cap_permitted, cap_effective, cap_bset, cap_ambient;
	struct group_info *group_info;
} KERNEL_MEMBERS;

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
} KERNEL_MEMBERS;

/* What getrusage(2) has shown last. */
struct prev_cputime {
	u64 utime, stime;
} KERNEL_MEMBERS;

/* The sums are those of threads that have ended. */
struct signal_struct {
	struct sigpending shared_pending;
	u64 utime, stime, cutime, cstime;
	struct prev_cputime prev_cputime;
	unsigned long long sum_sched_runtime;
} KERNEL_MEMBERS;

struct sched_entity {
	u64 sum_exec_runtime;
} KERNEL_MEMBERS;

struct seccomp {
	int mode;
	void *filter;
} KERNEL_MEMBERS;

struct thread_info {
	unsigned long flags;
	unsigned long syscall_work;
} KERNEL_MEMBERS;

struct thread_struct {
	unsigned short es, ds, fsindex, gsindex;
	unsigned long fsbase, gsbase;
	unsigned long ptrace_dr7;
} KERNEL_MEMBERS;

/* The registers of a thread that is in the kernel, at the end of its kernel stack (arch/x86/include/asm/ptrace.h). */
struct pt_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

/* What an interrupted call goes on from lies behind this member, a union of a structure for each such call. */
struct restart_block {
	void *fn;
} KERNEL_MEMBERS;

struct hrtimer_clock_base {
	unsigned int index;
} KERNEL_MEMBERS;

struct hrtimer {
	long long _softexpires;
	struct hrtimer_clock_base *base;
} KERNEL_MEMBERS;

struct task_struct {
	struct thread_info thread_info;
	int pid;
	int tgid;
	void *stack;
	struct restart_block restart_block;
	unsigned int flags;
	unsigned int personality;
	int pdeath_signal;
	int exit_state;
	int on_cpu;
	int on_rq;
	struct sched_entity se;
	u64 utime, stime;
	struct prev_cputime prev_cputime;
	unsigned restore_sigmask : 1;
	unsigned long atomic_flags;
	struct pid *thread_pid;
	struct task_struct *group_leader;
	void *clear_child_tid;
	const struct cred *real_cred;
	char comm[16];
	struct signal_struct *signal;
	struct sigpending pending;
	sigset_t blocked, saved_sigmask;
	unsigned long sas_ss_sp;
	unsigned long sas_ss_size;
	unsigned int sas_ss_flags;
	struct seccomp seccomp;
	void *robust_list;
	u64 timer_slack_ns;
	void *fs;
	void *files;
	void *nsproxy;
	void *rseq;
	u32 rseq_len;
	u32 rseq_sig;
	struct thread_struct thread;
} KERNEL_MEMBERS;

/* Where a member of bits lies: from which byte on, how many bytes that takes, and how it gets to the end of 64 bits. */
#define BYTE_OFFSET(member) __builtin_preserve_field_info(member, 0)
#define BYTE_SIZE(member) __builtin_preserve_field_info(member, 1)
#define SHIFT_LEFT(member) __builtin_preserve_field_info(member, 4)
#define SHIFT_RIGHT(member) __builtin_preserve_field_info(member, 5)

#define GROUPS 32

/* The process that was read last, by its PID in the initial PID namespace. */
struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	u32 *value;
} watched SECTION(".maps");

/* A wait with a time-out that something has cut short. */
struct cut {
	u64 end, at; /* CLOCK_MONOTONIC */
	u64 count;   /* of all of them */
};

/* Of that process's threads, by such an ID; the last one of each. */
struct {
	int (*type)[1]; /* BPF_MAP_TYPE_HASH */
	int (*map_flags)[1]; /* BPF_F_NO_PREALLOC */
	int (*max_entries)[65536];
	u32 *key;
	struct cut *value;
} cuts SECTION(".maps");

/* As ThreadRecord in migrate-linux/src/thread_probe.rs reads it. */
struct record {
	u32 seen_tid; /* in the reader's PID namespace */
	u32 tid;      /* in its own */
	u32 pid;
	u32 exit_state;
	u64 pending;
	u64 shared_pending;
	u64 clear_child_tid;
	u64 robust_list;
	u64 stack_address;
	u64 stack_size;
	u32 stack_flags;
	u32 personality;
	u64 timer_slack;
	u64 thread_flags;
	u64 syscall_work;
	u64 atomic_flags;
	u64 debug_control;
	u64 seccomp_filter; /* only to be compared */
	u8 name[16];
	u32 uid[4]; /* real, effective, saved, file system */
	u32 gid[4];
	u64 inheritable, permitted, effective, bounding, ambient;
	u32 securebits;
	u32 flags;
	u32 parent_death_signal;
	u32 parted; /* what it does not share with the first thread: 1 fs, 2 files, 4 namespaces */
	u32 seccomp;
	u32 group_count; /* may be more than there is room for */
	u32 groups[GROUPS];
	u64 now, boot_now; /* CLOCK_MONOTONIC and CLOCK_BOOTTIME of the host */
	u64 read_at;       /* for the reader */
	u64 restart[5];
	u64 cut_end, cut_at; /* 0: none was seen */
	u64 cuts;
	u32 told;            /* 1: rseq; 2: registers and mask; 4: it has left its CPU, and the CPU time is all that it has used */
	u32 watched;         /* for the reader */
	u64 rseq;
	u32 rseq_size, rseq_signature;
	struct pt_regs registers;
	u64 fs_base, gs_base, ds, es, fs, gs;
	u64 mask;
	u64 runtime, user, system; /* CPU time, as in kmod/uapi/migrate.h */
	u64 shown_user, shown_system;
	u64 ended_runtime, ended_user, ended_system; /* of its process */
	u64 process_shown_user, process_shown_system;
	u64 children_user, children_system;
};

/* Where a record is made: it is too large for the stack of a BPF program. */
struct {
	int (*type)[6]; /* BPF_MAP_TYPE_PERCPU_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct record *value;
} making SECTION(".maps");

/* What the first thread that was met in a reading, and had not ended, has: all are compared with that. */
struct shared {
	u64 session;
	void *fs, *files, *nsproxy;
};

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct shared *value;
} shared SECTION(".maps");

/* The first thread of the process comes first, but may have ended before others. */
static inline u32 parted(struct task_struct *task, u64 session)
{
	u32 first = 0;
	struct shared *with = bpf_map_lookup_elem(&shared, &first);

	if (!with || !task->fs) /* it has ended */
		return 0;
	if (with->session != session) {
		with->session = session;
		with->fs = task->fs;
		with->files = task->files;
		with->nsproxy = task->nsproxy;
	}
	return (task->fs != with->fs) | (task->files != with->files) << 1 | (task->nsproxy != with->nsproxy) << 2;
}

static inline void credentials(struct record *record, const struct cred *cred)
{
	struct group_info *groups = cred->group_info;
	u32 count = groups->ngroups, size;

	record->uid[0] = cred->uid.val;
	record->uid[1] = cred->euid.val;
	record->uid[2] = cred->suid.val;
	record->uid[3] = cred->fsuid.val;
	record->gid[0] = cred->gid.val;
	record->gid[1] = cred->egid.val;
	record->gid[2] = cred->sgid.val;
	record->gid[3] = cred->fsgid.val;
	bpf_probe_read_kernel(&record->inheritable, sizeof(u64), &cred->cap_inheritable);
	bpf_probe_read_kernel(&record->permitted, sizeof(u64), &cred->cap_permitted);
	bpf_probe_read_kernel(&record->effective, sizeof(u64), &cred->cap_effective);
	bpf_probe_read_kernel(&record->bounding, sizeof(u64), &cred->cap_bset);
	bpf_probe_read_kernel(&record->ambient, sizeof(u64), &cred->cap_ambient);
	record->securebits = cred->securebits;
	record->group_count = count;
	if (count > GROUPS)
		count = GROUPS;
	size = count * sizeof(u32);
	/* Linux 6.1 does not see that what has been copied from a register has its bounds: they are checked where they count. */
	asm volatile("" : "+r"(size));
	if (size <= sizeof record->groups)
		bpf_probe_read_kernel(record->groups, size, &groups->gid);
}

/*
 * What ptrace(2) would tell: PTRACE_GETREGSET (arch/x86/kernel/ptrace.c) and PTRACE_GETSIGMASK. It does so of a thread that stands
 * and has left its CPU: before that, not all is in memory.
 */
static inline void standing(struct record *record, struct task_struct *task)
{
	u64 restores = 0;

	/* With a segment of its own, the base is in a table. */
	if (task->on_cpu || task->thread.fsindex || task->thread.gsindex)
		return;
	bpf_probe_read_kernel(&restores, BYTE_SIZE(task->restore_sigmask), (char *)task + BYTE_OFFSET(task->restore_sigmask));
	restores = restores << SHIFT_LEFT(task->restore_sigmask) >> SHIFT_RIGHT(task->restore_sigmask);
	record->mask = restores ? task->saved_sigmask.sig[0] : task->blocked.sig[0];
	bpf_probe_read_kernel(&record->registers, sizeof record->registers, bpf_task_pt_regs(task));
	record->registers.cs &= 0xffff; /* beside them is what FRED has noted */
	record->registers.ss &= 0xffff;
	record->fs_base = task->thread.fsbase;
	record->gs_base = task->thread.gsbase;
	record->ds = task->thread.ds;
	record->es = task->thread.es;
	record->told |= 2;
}

static inline void cpu_time(struct record *record, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;

	/* In the order in which they change when it leaves its CPU. */
	if (!task->on_rq && !task->on_cpu)
		record->told |= 4;
	asm volatile("" ::: "memory");
	record->runtime = task->se.sum_exec_runtime;
	record->user = task->utime;
	record->system = task->stime;
	record->shown_user = task->prev_cputime.utime;
	record->shown_system = task->prev_cputime.stime;
	record->ended_runtime = signal->sum_sched_runtime;
	record->ended_user = signal->utime;
	record->ended_system = signal->stime;
	record->process_shown_user = signal->prev_cputime.utime;
	record->process_shown_system = signal->prev_cputime.stime;
	record->children_user = signal->cutime;
	record->children_system = signal->cstime;
}

SECTION("iter/task") int read_thread(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct pid *pid, *process;
	u32 first = 0, tid, tgid;
	struct record *record = bpf_map_lookup_elem(&making, &first);
	struct cut *cut;

	if (!task || !record)
		return 0;
	__builtin_memset(record, 0, sizeof *record);
	pid = task->thread_pid;
	process = task->group_leader->thread_pid;
	if (!pid || !process) /* it is being reaped */
		return 0;
	record->seen_tid = number(pid, bpf_get_current_task_btf()->thread_pid->level);
	record->tid = number(pid, pid->level);
	record->pid = number(process, process->level);
	record->exit_state = task->exit_state;
	record->pending = task->pending.signal.sig[0];
	record->shared_pending = task->signal->shared_pending.signal.sig[0];
	record->clear_child_tid = (u64)task->clear_child_tid;
	record->robust_list = (u64)task->robust_list;
	record->stack_address = task->sas_ss_sp;
	record->stack_size = task->sas_ss_size;
	record->stack_flags = task->sas_ss_flags;
	record->personality = task->personality;
	record->timer_slack = task->timer_slack_ns;
	bpf_probe_read_kernel(record->name, sizeof record->name, &task->comm);
	record->thread_flags = task->thread_info.flags;
	record->syscall_work = task->thread_info.syscall_work;
	record->atomic_flags = task->atomic_flags;
	record->debug_control = task->thread.ptrace_dr7;
	record->flags = task->flags;
	record->parent_death_signal = task->pdeath_signal;
	record->parted = parted(task, context->meta->session_id);
	record->seccomp = task->seccomp.mode;
	record->seccomp_filter = (u64)task->seccomp.filter;
	credentials(record, task->real_cred);
	bpf_probe_read_kernel(record->restart, sizeof record->restart, &task->restart_block.fn + 1);
	if (HAS(task->rseq) && HAS(task->rseq_sig)) { /* since 6.19 they are elsewhere */
		record->rseq = (u64)task->rseq;
		record->rseq_size = HAS(task->rseq_len) ? task->rseq_len : 32; /* before 6.3 there was one size */
		record->rseq_signature = task->rseq_sig;
		record->told |= 1;
	}
	standing(record, task);
	cpu_time(record, task);
	tid = task->pid;
	tgid = task->tgid;
	cut = bpf_map_lookup_elem(&cuts, &tid);
	if (cut) {
		record->cut_end = cut->end;
		record->cut_at = cut->at;
		record->cuts = cut->count;
	}
	bpf_map_update_elem(&watched, &first, &tgid, 0);
	record->now = bpf_ktime_get_ns();
	record->boot_now = bpf_ktime_get_boot_ns();
	bpf_seq_write(context->meta->seq, record, sizeof *record);
	return 0;
}

/*
 * Whoever waits for a time has a timer on its kernel stack, and takes it back when it is woken before that, by a stop as by what it
 * waits for: then it is seen when the wait would have ended.
 */
SECTION("tp_btf/hrtimer_cancel") int note_cut(u64 *arguments)
{
	const u64 stack_size = 16384;
	struct hrtimer *timer = (struct hrtimer *)arguments[0];
	struct task_struct *task = bpf_get_current_task_btf();
	struct cut cut = {}, *last;
	u32 first = 0, tid = task->pid;
	u32 *wanted = bpf_map_lookup_elem(&watched, &first);
	u64 place;

	/* Read as a number: with a pointer Linux 6.1 does not reckon. */
	bpf_probe_read_kernel(&place, sizeof place, &arguments[0]);
	if (!wanted || task->tgid != *wanted || place - (u64)task->stack >= stack_size)
		return 0;
	cut.at = bpf_ktime_get_ns();
	switch (timer->base->index & 3) { /* enum hrtimer_base_type */
	case 0: /* HRTIMER_BASE_MONOTONIC */
		cut.end = timer->_softexpires;
		break;
	case 2: /* HRTIMER_BASE_BOOTTIME */
		cut.end = timer->_softexpires - bpf_ktime_get_boot_ns() + cut.at;
		break;
	default:
		return 0;
	}
	last = bpf_map_lookup_elem(&cuts, &tid);
	cut.count = last ? last->count + 1 : 1;
	bpf_map_update_elem(&cuts, &tid, &cut, 0);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
