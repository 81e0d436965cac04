/*
 * What a process wants to be signalled of in directories (fcntl(2), F_NOTIFY): nothing else tells. fs/notify/dnotify/dnotify.c keeps it
 * with the directory's inode, for all processes that want anything of it.
 */
#include "kernel.h"

struct hlist_node {
	struct hlist_node *next;
} KERNEL_MEMBERS;

struct hlist_head {
	struct hlist_node *first;
} KERNEL_MEMBERS;

struct fsnotify_ops {
	void *handle_inode_event;
} KERNEL_MEMBERS;

struct fsnotify_group {
	const struct fsnotify_ops *ops;
} KERNEL_MEMBERS;

struct fsnotify_mark_connector {
	struct hlist_head list;
} KERNEL_MEMBERS;

struct fsnotify_mark {
	struct fsnotify_group *group;
	struct hlist_node obj_list;
	struct fsnotify_mark_connector *connector;
} KERNEL_MEMBERS;

struct files_struct;

struct dnotify_struct {
	struct dnotify_struct *dn_next;
	u32 dn_mask;
	int dn_fd;
	struct file *dn_filp;
	struct files_struct *dn_owner;
} KERNEL_MEMBERS;

struct dnotify_mark {
	struct fsnotify_mark fsn_mark;
	struct dnotify_struct *dn;
} KERNEL_MEMBERS;

struct signal_struct;

struct task_struct {
	struct files_struct *files;
	struct signal_struct *signal;
	struct hlist_node pid_links[4]; /* PIDTYPE_MAX */
} KERNEL_MEMBERS;

struct pid___owner {
	struct hlist_head tasks[4];
} KERNEL_MEMBERS;

struct fown_struct {
	struct pid___owner *pid;
} KERNEL_MEMBERS;

struct inode {
	struct fsnotify_mark_connector *i_fsnotify_marks;
} KERNEL_MEMBERS;

struct file {
	struct inode *f_inode;
	struct fown_struct *f_owner; /* since 6.12 */
} KERNEL_MEMBERS;

struct file___before_6_12 {
	struct fown_struct f_owner;
} KERNEL_MEMBERS;

/* As NotifyRecord in migrate-linux/src/notify_probe.rs reads it. */
struct record {
	u32 number; /* the descriptor by which it was asked for last */
	u32 events; /* FS_CREATE and so on */
	u32 bits;
};

#define OTHER 1 /* not all could be looked at */
#define TOLD 2 /* this process gets the signals */

/* So many watch one directory, and so many processes want something of it, at the most. */
#define MARKS 256
#define WANTED 1024

static const char symbol[] = "%ps";
static const char handler[] = "dnotify_handle_event";

/* Each way of watching has its own operations; the kernel tells the name of a function. */
static INLINE int is_of_dnotify(struct fsnotify_mark *mark)
{
	struct fsnotify_group *group = 0;
	const struct fsnotify_ops *ops = 0;
	char name[sizeof handler + 1] = {};
	u64 function = 0;

	READ(group, mark->group);
	READ(ops, group->ops);
	READ(function, ops->handle_inode_event);
	/* As much of it as fits. A compiler may have put something behind the name. */
	bpf_snprintf(name, sizeof name, symbol, &function, sizeof function);
	for (unsigned int i = 0; i < sizeof handler - 1; i++)
		if (name[i] != handler[i])
			return 0;
	return name[sizeof handler - 1] == 0 || name[sizeof handler - 1] == '.';
}

/* Whether the signals about it go to a thread of this process that is there: fcntl(2) does not tell if they go to its process by another one
 * than the first. */
static INLINE int is_told(struct file *file, struct task_struct *task)
{
	struct file___before_6_12 *before = (void *)file;
	struct fown_struct *owner = 0;
	struct pid___owner *pid = 0;
	struct hlist_node *node = 0;
	struct task_struct *thread = 0;
	struct signal_struct *of = 0;

	if (HAS(before->f_owner))
		owner = &before->f_owner;
	else
		READ(owner, file->f_owner);
	READ(pid, owner->pid);
	READ(node, pid->tasks[0].first); /* PIDTYPE_PID */
	if (!node)
		return 0;
	thread = (void *)node - __builtin_preserve_field_info(thread->pid_links[0], 0);
	READ(of, thread->signal);
	return of == task->signal;
}

SECTION("iter/task_file") int read_notify(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;
	struct record record = {};
	struct fsnotify_mark_connector *connector;
	struct fsnotify_mark *mark = 0;
	struct dnotify_struct *wanted = 0;
	struct hlist_node *node = 0;
	int i;

	if (!task || !file)
		return 0;
	connector = file->f_inode->i_fsnotify_marks;
	if (!connector)
		return 0;
	record.number = context->fd;
	READ(node, connector->list.first);
	for (i = 0; i < MARKS && node; i++) {
		struct fsnotify_mark_connector *of = 0;

		mark = (void *)node - __builtin_preserve_field_info(mark->obj_list, 0);
		READ(of, mark->connector);
		/* It has been taken away meanwhile, and what comes behind it may be anything. */
		if (of != connector) {
			i = MARKS;
			break;
		}
		if (is_of_dnotify(mark))
			break;
		READ(node, node->next);
	}
	if (!node)
		return 0;
	if (i == MARKS)
		goto other;
	READ(wanted, ((struct dnotify_mark *)mark)->dn);
	for (i = 0; i < WANTED && wanted; i++) {
		struct file *of = 0;
		struct files_struct *owner = 0;
		int number = -1;

		READ(of, wanted->dn_filp);
		READ(owner, wanted->dn_owner);
		READ(number, wanted->dn_fd);
		if (of == file && owner == task->files) {
			if (number != record.number)
				return 0;
			READ(record.events, wanted->dn_mask);
			if (is_told(file, task))
				record.bits = TOLD;
			bpf_seq_write(context->meta->seq, &record, sizeof record);
			return 0;
		}
		READ(wanted, wanted->dn_next);
	}
	if (!wanted)
		return 0;
other:
	record.bits = OTHER;
	bpf_seq_write(context->meta->seq, &record, sizeof record);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
