/*
 * When a process was last on a processor before a moment, and when first after one: its downtime, as the scheduler saw it.
 *
 * Linux 6.1 and later.
 */
#include "kernel.h"

struct task_struct {
	int tgid;
} KERNEL_MEMBERS;

/* As Wanted and Seen in migrate-linux/src/downtime_probe.rs. */
struct wanted {
	u32 process; /* by its PID in the initial PID namespace; 0: none yet */
	u32 awaited; /* not 0: when it is first on a processor is to be noted */
};

/* CLOCK_BOOTTIME of the host; 0: not yet. */
struct seen {
	u64 last_out;
	u64 first_in;
};

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct wanted *value;
} wanted SECTION(".maps");

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct seen *value;
} seen SECTION(".maps");

/* Tells for each thread which process it is of. */
SECTION("iter/task") int which(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	u32 process;

	if (!task)
		return 0;
	process = task->tgid;
	bpf_seq_write(context->meta->seq, &process, sizeof process);
	return 0;
}

/* On another processor another thread of it may be switched at the same time. */
SECTION("tp_btf/sched_switch") int note_switch(u64 *arguments)
{
	struct task_struct *previous = (struct task_struct *)arguments[1], *next = (struct task_struct *)arguments[2];
	u32 first = 0, out = previous->tgid, in = next->tgid;
	struct wanted *asked = bpf_map_lookup_elem(&wanted, &first);
	struct seen *note = bpf_map_lookup_elem(&seen, &first);
	u64 now;

	if (!asked || !note || asked->process == 0 || (out != asked->process && in != asked->process))
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (out == asked->process && now > note->last_out)
		note->last_out = now;
	if (in == asked->process && asked->awaited)
		__sync_val_compare_and_swap(&note->first_in, 0, now);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
