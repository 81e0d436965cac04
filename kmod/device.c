// SPDX-License-Identifier: MIT OR GPL-2.0
/* /dev/migrate: what moving processes to another host needs of the kernel, and programs cannot ask it for. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "migrate.h"

static long hello(struct migrate_hello __user *to)
{
	const struct migrate_hello hello = { .version = MIGRATE_VERSION, .can = features() };

	return copy_to_user(to, &hello, sizeof(hello)) ? -EFAULT : 0;
}

static long command(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *request = (void __user *)argument;

	switch (command) {
	case MIGRATE_HELLO:
		return hello(request);
	case MIGRATE_READ_THREADS:
		return read_threads(request);
	case MIGRATE_READ_PROCESS:
		return read_process(request);
	case MIGRATE_SET_WAIT:
		return set_wait(request);
	case MIGRATE_SET_NEXT_TIMER:
		return set_next_timer(request);
	}
	return -ENOTTY;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
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
