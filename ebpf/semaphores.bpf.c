/*
 * What is done to System V semaphores when a process ends (SEM_UNDO of semop(2)): nothing else can look at it. ipc/sem.c keeps, for each
 * set of which the process has undone something, an adjustment of each semaphore.
 *
 * Linux 6.1 and later.
 */
#include "kernel.h"

struct list_head {
	struct list_head *next;
} KERNEL_MEMBERS;

/* Threads share one (CLONE_SYSVSEM). */
struct sem_undo_list {
	struct list_head list_proc;
} KERNEL_MEMBERS;

struct sem_undo {
	struct list_head list_proc;
	int semid;
} KERNEL_MEMBERS;

/* Where the adjustments are: before 6.6 elsewhere, and since then at its end. */
struct sem_undo___elsewhere {
	short *semadj;
} KERNEL_MEMBERS;

struct sem_undo___at_end {
	short semadj[1];
} KERNEL_MEMBERS;

struct sysv_sem {
	struct sem_undo_list *undo_list;
} KERNEL_MEMBERS;

struct task_struct {
	int exit_state;
	struct pid *thread_pid;
	struct task_struct *group_leader;
	struct sysv_sem sysvsem;
} KERNEL_MEMBERS;

#define BYTE_OFFSET(member) __builtin_preserve_field_info(member, 0)

#define AT_ONCE 64
/* So many pieces of sets are looked at. */
#define STEPS 65536

#define UNKNOWN 1    /* how many semaphores it has was not said: the adjustments are not read */
#define UNFINISHED 2 /* there are more sets */

/* As Record in migrate-linux/src/undo_probe.rs reads it. The first of a set is always told, the others if there is something in them. */
struct record {
	u32 tid; /* in the reader's PID namespace: the process, or a thread that has its own */
	s32 set;
	u32 first;
	u32 what;
	short adjustments[AT_ONCE];
};

/* How many semaphores each set has. */
struct {
	int (*type)[1]; /* BPF_MAP_TYPE_HASH */
	int (*map_flags)[1]; /* BPF_F_NO_PREALLOC */
	int (*max_entries)[32768];
	s32 *key;
	u32 *value;
} counts SECTION(".maps");

struct making {
	struct record record;
	u64 head; /* of the list */
	u64 at;	  /* the node of a set */
	u32 first;
	u32 count;
};

struct {
	int (*type)[6]; /* BPF_MAP_TYPE_PERCPU_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct making *value;
} making SECTION(".maps");

struct step {
	struct making *now;
	struct seq_file *seq;
};

/* One piece of the set at which it is. 1: there is none. */
static long tell_piece(u32 step, struct step *context)
{
	struct making *now = context->now;
	struct sem_undo *undo = (struct sem_undo *)now->at;
	const char *from = 0;
	u32 *count, left, size, used = 0;
	u64 next = 0;

	if (now->at == now->head || !now->at)
		return 1;
	bpf_probe_read_kernel(&next, sizeof next, &undo->list_proc.next);
	bpf_probe_read_kernel(&now->record.set, sizeof now->record.set, &undo->semid);
	now->record.first = now->first;
	count = bpf_map_lookup_elem(&counts, &now->record.set);
	now->record.what = count ? 0 : UNKNOWN;
	now->count = count ? *count : 0;
	__builtin_memset(now->record.adjustments, 0, sizeof now->record.adjustments);
	/* The kernel takes no program that gets to what it does not have. */
	if (HAS(((struct sem_undo___elsewhere *)undo)->semadj))
		bpf_probe_read_kernel(&from, sizeof from, &((struct sem_undo___elsewhere *)undo)->semadj);
	else
		from = (const char *)undo + BYTE_OFFSET(((struct sem_undo___at_end *)undo)->semadj);
	left = now->count > now->first ? now->count - now->first : 0;
	size = (left < AT_ONCE ? left : AT_ONCE) * sizeof(short);
	/* As in threads.bpf.c: its bounds are checked where they count. */
	asm volatile("" : "+r"(size));
	if (size && size <= sizeof now->record.adjustments)
		bpf_probe_read_kernel(now->record.adjustments, size, from + (u64)now->first * sizeof(short));
	for (int i = 0; i < AT_ONCE; i++)
		used |= (unsigned short)now->record.adjustments[i];
	if (used || !now->first)
		bpf_seq_write(context->seq, &now->record, sizeof now->record);
	now->first += AT_ONCE;
	if (now->first >= now->count) {
		now->first = 0;
		now->at = next;
	}
	return 0;
}

/* What the first thread that was met in a reading has, and had not ended: it is the process's. */
struct first {
	u64 session;
	u64 list;
};

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct first *value;
} firsts SECTION(".maps");

SECTION("iter/task") int read_undo(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct sem_undo_list *list;
	u32 zero = 0;
	struct making *now = bpf_map_lookup_elem(&making, &zero);
	struct first *first = bpf_map_lookup_elem(&firsts, &zero);
	struct step step = { .now = now, .seq = context->meta->seq };
	struct pid *whose;
	int is_first;

	if (!task || !now || !first)
		return 0;
	list = task->sysvsem.undo_list;
	is_first = first->session != context->meta->session_id && !task->exit_state;
	if (is_first) {
		first->session = context->meta->session_id;
		first->list = (u64)list;
	}
	if (!list || (!is_first && (u64)list == first->list))
		return 0;
	whose = is_first ? task->group_leader->thread_pid : task->thread_pid;
	if (!whose) /* it is being reaped */
		return 0;
	__builtin_memset(now, 0, sizeof *now);
	now->record.tid = number(whose, bpf_get_current_task_btf()->thread_pid->level);
	now->head = (u64)list + BYTE_OFFSET(list->list_proc);
	bpf_probe_read_kernel(&now->at, sizeof now->at, &list->list_proc.next);
	bpf_loop(STEPS, tell_piece, &step, 0);
	if (now->at == now->head || !now->at)
		return 0;
	now->record.what = UNFINISHED;
	bpf_seq_write(context->meta->seq, &now->record, sizeof now->record);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
