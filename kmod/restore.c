// SPDX-License-Identifier: MIT OR GPL-2.0
/* What is changed in the threads of a new process, and by what their waits are known. */
#include <linux/err.h>
#include <linux/kallsyms.h>
#include <linux/ktime.h>
#include <linux/restart_block.h>
#include <linux/string.h>
#include <linux/time.h>
#include <linux/time64.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "migrate.h"

/* The kernel's functions that go on with a call. They are known by name alone: modules are not given their addresses. */
static const struct {
	const char *name;
	enum migrate_wait wait;
} functions[] = {
	{ "hrtimer_nanosleep_restart", MIGRATE_WAIT_SLEEP },
	{ "do_restart_poll", MIGRATE_WAIT_POLL },
	{ "futex_wait_restart", MIGRATE_WAIT_FUTEX },
	{ "do_no_restart_syscall", MIGRATE_WAIT_NONE },
};

/* Their addresses, once they have been met: the names need not be made again. */
static unsigned long addresses[ARRAY_SIZE(functions)];

static bool is_called(const char *symbol, const char *name)
{
	size_t length = strlen(name);

	/* A compiler may add `.isra.0` and the like. */
	return !strncmp(symbol, name, length) && (!symbol[length] || symbol[length] == '.');
}

enum migrate_wait interrupted_in(const struct task_struct *task)
{
	unsigned long address = (unsigned long)READ_ONCE(task->restart_block.fn);
	char symbol[KSYM_SYMBOL_LEN];
	size_t i;

	if (!address)
		return MIGRATE_WAIT_NONE;
	for (i = 0; i < ARRAY_SIZE(functions); i++)
		if (READ_ONCE(addresses[i]) == address)
			return functions[i].wait;
	sprint_symbol_no_offset(symbol, address);
	for (i = 0; i < ARRAY_SIZE(functions); i++)
		if (is_called(symbol, functions[i].name)) {
			WRITE_ONCE(addresses[i], address);
			return functions[i].wait;
		}
	return MIGRATE_WAIT_OTHER;
}

u32 features(void)
{
	u32 can = MIGRATE_CAN_SET_CPU_TIME;

	if (IS_ENABLED(CONFIG_KALLSYMS))
		can |= MIGRATE_CAN_SET_WAIT;
#ifdef NEXT_TIMER
	can |= MIGRATE_CAN_SET_NEXT_TIMER;
#endif
	if (can_watch())
		can |= MIGRATE_CAN_WATCH;
	return can;
}

static u64 after(u64 now, s64 left)
{
	if (left < 0)
		return (u64)-left < now ? now + left : 0;
	return left < KTIME_MAX - (s64)now ? now + left : KTIME_MAX;
}

static int set_sleep(struct restart_block *restart, s64 left)
{
	u64 now;

	switch (restart->nanosleep.clockid) {
	case CLOCK_MONOTONIC:
		now = ktime_get_ns();
		break;
	case CLOCK_BOOTTIME:
		now = ktime_get_boottime_ns();
		break;
	case CLOCK_TAI:
		now = ktime_get_clocktai_ns();
		break;
	default:
		return -ESTALE;
	}
	restart->nanosleep.expires = after(now, left);
	return 0;
}

static int set_poll(struct restart_block *restart, s64 left)
{
	struct timespec64 end = ns_to_timespec64(after(ktime_get_ns(), left));

	if (!restart->poll.has_timeout)
		return -ESTALE;
	restart->poll.tv_sec = end.tv_sec;
	restart->poll.tv_nsec = end.tv_nsec;
	return 0;
}

/* Numbers alone are changed, and only times: whatever they say, the kernel takes them as a program's. */
long set_wait(const struct migrate_set_wait __user *from)
{
	struct migrate_set_wait request;
	struct restart_block *restart;
	struct task_struct *task;
	int error = -ESTALE;

	if (copy_from_user(&request, from, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION)
		return -EPROTO;
	if (request.reserved || request.left == S64_MIN)
		return -EINVAL;
	task = get_stopped(request.tid);
	if (IS_ERR(task))
		return PTR_ERR(task);
	restart = &task->restart_block;
	if (interrupted_in(task) == request.wait) {
		switch (request.wait) {
		case MIGRATE_WAIT_SLEEP:
			error = set_sleep(restart, request.left);
			break;
		case MIGRATE_WAIT_POLL:
			error = set_poll(restart, request.left);
			break;
		case MIGRATE_WAIT_FUTEX:
			restart->futex.time = after(ktime_get_ns(), request.left);
			error = 0;
			break;
		}
	}
	put_task_struct(task);
	return error;
}

long set_next_timer(const struct migrate_set_next_timer __user *from)
{
	struct migrate_set_next_timer request;
	struct task_struct *task;

	if (copy_from_user(&request, from, sizeof(request)))
		return -EFAULT;
	if (request.version != MIGRATE_VERSION)
		return -EPROTO;
	if (request.reserved || request.id < 0)
		return -EINVAL;
	task = get_stopped(request.pid);
	if (IS_ERR(task))
		return PTR_ERR(task);
#ifdef NEXT_TIMER
	/* Where the search for a free one begins; another thread that searches meanwhile only begins elsewhere. */
	WRITE_ONCE(task->signal->NEXT_TIMER, request.id);
	put_task_struct(task);
	return 0;
#else
	put_task_struct(task);
	return -EOPNOTSUPP;
#endif
}
