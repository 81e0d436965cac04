/*
 * What every probe begins with. Structures of the kernel name only the members that are used; where they lie, the loader takes from the
 * running kernel's own description (BTF).
 */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef long long s64;
typedef unsigned long long u64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE __attribute__((always_inline)) inline
#define KERNEL_MEMBERS __attribute__((preserve_access_index))
/* Whether the running kernel has that member, of that type. */
#define HAS(member) __builtin_preserve_field_info(member, 2) /* BPF_FIELD_EXISTS */

struct pt_regs;
struct seq_file;
/* Each probe says itself what it wants of it. */
struct task_struct;
struct file;

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

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id; /* of each reading another one */
} KERNEL_MEMBERS;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KERNEL_MEMBERS;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
} KERNEL_MEMBERS;

/* include/uapi/linux/bpf.h */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;
static long (*bpf_seq_write)(struct seq_file *seq, const void *data, u32 size) = (void *)127;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static long (*bpf_snprintf)(char *to, u32 size, const char *format, u64 *data, u32 data_size) = (void *)165;
static struct pt_regs *(*bpf_task_pt_regs)(struct task_struct *task) = (void *)175;
static long (*bpf_loop)(u32 steps, void *step, void *context, u64 flags) = (void *)181;

/* A member that lies anywhere: if it cannot be read, `to` becomes 0. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

/* The number that it has in the PID namespace of that level, which must be its own or one around that. */
static INLINE u32 number(struct pid *pid, u32 level)
{
	struct numbered found = {};
	const char *numbers = (const char *)&pid->numbers;

	if (level > 32) /* MAX_PID_NS_LEVEL */
		return 0;
	bpf_probe_read_kernel(&found, sizeof found, numbers + level * sizeof found);
	return found.nr;
}

#endif
