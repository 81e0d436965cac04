/*
 * What the kernel knows of each thread of a process, all of them in one read: without it, each thread has to be asked
 * by text files and by calls made inside it.
 *
 * The structures name only the members that are used; where they lie, the loader takes from the running kernel's own
 * description (BTF). Linux 6.1 and later.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SECTION(name) __attribute__((section(name), used))
#define KERNEL_MEMBERS __attribute__((preserve_access_index))

struct upid {
	int nr;
} KERNEL_MEMBERS;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} KERNEL_MEMBERS;

/* On the wire of pid.numbers: the number, and the namespace that it is of. */
struct numbered {
	int nr;
	void *ns;
};

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

struct signal_struct {
	struct sigpending shared_pending;
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
	unsigned long ptrace_dr7;
} KERNEL_MEMBERS;

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
	unsigned long atomic_flags;
	struct pid *thread_pid;
	struct task_struct *group_leader;
	void *clear_child_tid;
	const struct cred *real_cred;
	char comm[16];
	struct signal_struct *signal;
	struct sigpending pending;
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

/* Whether the running kernel has that member, of that type. */
#define HAS(member) __builtin_preserve_field_info(member, 2) /* BPF_FIELD_EXISTS */

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL_MEMBERS;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KERNEL_MEMBERS;

/* include/uapi/linux/bpf.h */
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_seq_write)(struct seq_file *seq, const void *data, u32 size) = (void *)127;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;

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
	u32 told;            /* 1: rseq */
	u32 watched;         /* for the reader */
	u64 rseq;
	u32 rseq_size, rseq_signature;
};

static inline u32 number(struct pid *pid, u32 level)
{
	struct numbered found = {};
	const char *numbers = (const char *)&pid->numbers;

	if (level > 32) /* MAX_PID_NS_LEVEL */
		return 0;
	bpf_probe_read_kernel(&found, sizeof found, numbers + level * sizeof found);
	return found.nr;
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

SECTION("iter/task") int read_thread(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task, *leader;
	struct record record = {};
	struct pid *pid, *process;

	if (!task)
		return 0;
	pid = task->thread_pid;
	process = task->group_leader->thread_pid;
	if (!pid || !process) /* it is being reaped */
		return 0;
	record.seen_tid = number(pid, bpf_get_current_task_btf()->thread_pid->level);
	record.tid = number(pid, pid->level);
	record.pid = number(process, process->level);
	record.exit_state = task->exit_state;
	record.pending = task->pending.signal.sig[0];
	record.shared_pending = task->signal->shared_pending.signal.sig[0];
	record.clear_child_tid = (u64)task->clear_child_tid;
	record.robust_list = (u64)task->robust_list;
	record.stack_address = task->sas_ss_sp;
	record.stack_size = task->sas_ss_size;
	record.stack_flags = task->sas_ss_flags;
	record.personality = task->personality;
	record.timer_slack = task->timer_slack_ns;
	bpf_probe_read_kernel(record.name, sizeof record.name, &task->comm);
	record.thread_flags = task->thread_info.flags;
	record.syscall_work = task->thread_info.syscall_work;
	record.atomic_flags = task->atomic_flags;
	record.debug_control = task->thread.ptrace_dr7;
	record.flags = task->flags;
	record.parent_death_signal = task->pdeath_signal;
	leader = task->group_leader;
	if (leader->fs) /* else it has ended */
		record.parted = (task->fs != leader->fs) | (task->files != leader->files) << 1 |
				(task->nsproxy != leader->nsproxy) << 2;
	record.seccomp = task->seccomp.mode;
	record.seccomp_filter = (u64)task->seccomp.filter;
	credentials(&record, task->real_cred);
	bpf_probe_read_kernel(record.restart, sizeof record.restart, &task->restart_block.fn + 1);
	if (HAS(task->rseq) && HAS(task->rseq_sig)) { /* since 6.19 they are elsewhere */
		record.rseq = (u64)task->rseq;
		record.rseq_size = HAS(task->rseq_len) ? task->rseq_len : 32; /* before 6.3 there was one size */
		record.rseq_signature = task->rseq_sig;
		record.told |= 1;
	}
	u32 first = 0, tid = task->pid, tgid = task->tgid;
	struct cut *cut = bpf_map_lookup_elem(&cuts, &tid);
	if (cut) {
		record.cut_end = cut->end;
		record.cut_at = cut->at;
		record.cuts = cut->count;
	}
	bpf_map_update_elem(&watched, &first, &tgid, 0);
	record.now = bpf_ktime_get_ns();
	record.boot_now = bpf_ktime_get_boot_ns();
	bpf_seq_write(context->meta->seq, &record, sizeof record);
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
