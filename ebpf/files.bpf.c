/*
 * What the kernel knows of each descriptor of a process, all of them in one read: without it, each has to be compared, and its text
 * in fdinfo be read.
 */
#include "kernel.h"

struct list_head {
	struct list_head *next;
} KERNEL_MEMBERS;

struct hlist_node;

struct hlist_head {
	struct hlist_node *first;
} KERNEL_MEMBERS;

struct file_lock_context {
	struct list_head flc_flock, flc_posix, flc_lease;
} KERNEL_MEMBERS;

struct super_block {
	unsigned long s_magic;
} KERNEL_MEMBERS;

struct inode {
	struct super_block *i_sb;
	struct file_lock_context *i_flctx;
	u32 i_nlink;
	s64 i_size;
	s64 i_mtime_sec, i_ctime_sec; /* since 6.11 */
	u32 i_mtime_nsec, i_ctime_nsec;
} KERNEL_MEMBERS;

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

/* The loader takes what is behind three underscores for a variant of the same structure. */
struct inode___before_6_11 {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
} KERNEL_MEMBERS;

struct inode___before_6_7 {
	struct timespec64 i_mtime;
} KERNEL_MEMBERS;

struct inode___before_6_6 {
	struct timespec64 i_ctime;
} KERNEL_MEMBERS;

struct file_operations {
	void *show_fdinfo;
} KERNEL_MEMBERS;

enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID, PIDTYPE_MAX };

struct pid___owner {
	struct hlist_head tasks[PIDTYPE_MAX];
} KERNEL_MEMBERS;

struct fown_struct {
	struct pid *pid;
	enum pid_type pid_type;
	int signum;
} KERNEL_MEMBERS;

struct eventfd_ctx {
	u32 flags;
} KERNEL_MEMBERS;

struct file {
	s64 f_pos;
	u32 f_flags;
	struct inode *f_inode;
	const struct file_operations *f_op;
	struct eventfd_ctx *private_data;
	struct fown_struct *f_owner; /* since 6.12 */
} KERNEL_MEMBERS;

struct file___before_6_12 {
	struct fown_struct f_owner;
} KERNEL_MEMBERS;

struct fdtable {
	unsigned long *close_on_exec;
} KERNEL_MEMBERS;

struct files_struct {
	struct fdtable *fdt;
} KERNEL_MEMBERS;

struct task_struct {
	struct files_struct *files;
	struct pid *thread_pid;
} KERNEL_MEMBERS;

/* As FileRecord in migrate-linux/src/file_probe.rs reads it. */
struct record {
	u32 number;
	u32 flags; /* of the description */
	u64 description; /* only to be compared */
	s64 pos;
	u32 bits;
	u32 links;
	s64 size;
	struct timespec64 mtime, ctime;
	u32 owner; /* a thread by which a process was named as the owner, as this reader sees it */
	u32 unused;
};

#define CLOSE_ON_EXEC 1
#define MORE 2 /* its fdinfo shows more than every one does */
#define OWNER 4 /* whom its events are signalled to, or how, has been set */
#define STAT 8 /* links, size and times are those that fstat(2) shows */
#define SEMAPHORE 16 /* if it is an eventfd, it is one of EFD_SEMAPHORE */

static inline int is_locked(struct file *file)
{
	struct file_lock_context *locks = file->f_inode->i_flctx;

	return locks && (locks->flc_flock.next != &locks->flc_flock || locks->flc_posix.next != &locks->flc_posix ||
			 locks->flc_lease.next != &locks->flc_lease);
}

static INLINE struct fown_struct *owner_of(struct file *file)
{
	struct file___before_6_12 *before = (void *)file;
	struct fown_struct *owner = 0;

	if (HAS(before->f_owner))
		return &before->f_owner;
	READ(owner, file->f_owner);
	return owner;
}

/* F_GETOWN_EX shows of which kind an owner was, even if there is none any more. */
static INLINE void tell_owner(struct record *record, struct fown_struct *owner)
{
	struct pid *pid = 0;
	struct hlist_node *thread = 0;
	enum pid_type type = PIDTYPE_PID;
	int signum = 0;
	u32 own_level = bpf_get_current_task_btf()->thread_pid->level, level = 0;

	READ(pid, owner->pid);
	READ(type, owner->pid_type);
	READ(signum, owner->signum);
	if (pid || type != PIDTYPE_PID || signum)
		record->bits |= OWNER;
	if (!pid || type != PIDTYPE_TGID)
		return;
	READ(thread, ((struct pid___owner *)pid)->tasks[PIDTYPE_PID].first);
	READ(level, pid->level);
	if (thread && level >= own_level)
		record->owner = number(pid, own_level);
}

/* Of file systems that ask nobody else for these when they are asked (their getattr is generic_fillattr, fs/stat.c, for these). */
static inline int is_local(u64 magic)
{
	return magic == 0xef53 /* ext4 */ || magic == 0x58465342 /* XFS */ || magic == 0x9123683e /* Btrfs */ ||
	       magic == 0x01021994 /* tmpfs */;
}

static inline void stat(struct record *record, struct inode *inode)
{
	struct inode___before_6_11 *before_6_11 = (void *)inode;
	struct inode___before_6_7 *before_6_7 = (void *)inode;
	struct inode___before_6_6 *before_6_6 = (void *)inode;

	if (HAS(inode->i_mtime_sec)) {
		record->mtime.tv_sec = inode->i_mtime_sec;
		record->mtime.tv_nsec = inode->i_mtime_nsec;
		record->ctime.tv_sec = inode->i_ctime_sec;
		record->ctime.tv_nsec = inode->i_ctime_nsec & 0x7fffffff; /* the highest bit: it has been asked for (I_CTIME_QUERIED) */
	} else {
		if (HAS(before_6_11->__i_mtime))
			bpf_probe_read_kernel(&record->mtime, sizeof record->mtime, &before_6_11->__i_mtime);
		else if (HAS(before_6_7->i_mtime))
			bpf_probe_read_kernel(&record->mtime, sizeof record->mtime, &before_6_7->i_mtime);
		else
			return;
		if (HAS(before_6_11->__i_ctime))
			bpf_probe_read_kernel(&record->ctime, sizeof record->ctime, &before_6_11->__i_ctime);
		else if (HAS(before_6_6->i_ctime))
			bpf_probe_read_kernel(&record->ctime, sizeof record->ctime, &before_6_6->i_ctime);
		else
			return;
	}
	record->links = inode->i_nlink;
	record->size = inode->i_size;
	record->bits |= STAT;
}

SECTION("iter/task_file") int read_file(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;
	struct record record = {};
	unsigned long word = 0;
	u32 number = context->fd, eventfd_flags = 0;

	if (!task || !file)
		return 0;
	record.number = number;
	record.flags = file->f_flags;
	record.description = (u64)file;
	record.pos = file->f_pos;
	bpf_probe_read_kernel(&word, sizeof word, task->files->fdt->close_on_exec + number / 64);
	if (word >> (number % 64) & 1)
		record.bits |= CLOSE_ON_EXEC;
	if (file->f_op->show_fdinfo || is_locked(file))
		record.bits |= MORE;
	tell_owner(&record, owner_of(file));
	READ(eventfd_flags, file->private_data->flags);
	if (eventfd_flags & 1) /* EFD_SEMAPHORE */
		record.bits |= SEMAPHORE;
	if (is_local(file->f_inode->i_sb->s_magic))
		stat(&record, file->f_inode);
	bpf_seq_write(context->meta->seq, &record, sizeof record);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
