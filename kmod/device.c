// SPDX-License-Identifier: MIT OR GPL-2.0
/* /dev/migrate: what moving processes to another host needs of the kernel, and programs cannot ask it for. */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "migrate.h"

static long hello(struct migrate_hello __user *to)
{
	const struct migrate_hello hello = { .version = MIGRATE_VERSION, .can = features() };

	return copy_to_user(to, &hello, sizeof(hello)) ? -EFAULT : 0;
}

/* What there is of an open file. */
struct opened {
	struct mutex lock; /* of what follows */
	struct watch *watch;
};

static int open(struct inode *inode, struct file *file)
{
	struct opened *opened = kzalloc(sizeof(*opened), GFP_KERNEL_ACCOUNT);

	if (!opened)
		return -ENOMEM;
	mutex_init(&opened->lock);
	file->private_data = opened;
	return nonseekable_open(inode, file);
}

static int release(struct inode *inode, struct file *file)
{
	struct opened *opened = file->private_data;

	if (opened->watch)
		end_watch(opened->watch);
	kfree(opened);
	return 0;
}

static long watch(struct opened *opened, const struct migrate_watch __user *from)
{
	struct migrate_watch request;
	struct task_struct *task;
	struct watch *watch;

	if (copy_from_user(&request, from, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION)
		return -EPROTO;
	if (opened->watch)
		return -EBUSY;
	task = get_target(request.pid);
	if (IS_ERR(task))
		return PTR_ERR(task);
	watch = begin_watch(task);
	put_target(task);
	if (IS_ERR(watch))
		return PTR_ERR(watch);
	opened->watch = watch;
	return 0;
}

/* These have to do with what is watched: one at a time. */
static long about_watch(struct opened *opened, unsigned int command, void __user *request)
{
	long result = mutex_lock_interruptible(&opened->lock);

	if (result)
		return result;
	if (command == MIGRATE_WATCH)
		result = watch(opened, request);
	else
		result = read_threads(request, opened->watch);
	mutex_unlock(&opened->lock);
	return result;
}

static long command(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *request = (void __user *)argument;

	switch (command) {
	case MIGRATE_HELLO:
		return hello(request);
	case MIGRATE_READ_THREADS:
	case MIGRATE_WATCH:
		return about_watch(file->private_data, command, request);
	case MIGRATE_READ_TIMERS:
		return read_timers(request);
	case MIGRATE_SET_WAIT:
		return set_wait(request);
	case MIGRATE_SET_NEXT_TIMER:
		return set_next_timer(request);
	case MIGRATE_SET_MISSED:
		return set_missed(request);
	case MIGRATE_SET_CPU_TIME:
		return set_cpu_time(request);
	}
	return -ENOTTY;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = open,
	.release = release,
	.unlocked_ioctl = command,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "migrate",
	.fops = &operations,
	.mode = 0600,
};

static int __init begin(void)
{
	threads_init();
	watch_init();
	return misc_register(&device);
}

static void __exit end(void)
{
	misc_deregister(&device);
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("Kernel state of processes that move to another host");
MODULE_AUTHOR("the migrate project");
MODULE_LICENSE("Dual MIT/GPL");
