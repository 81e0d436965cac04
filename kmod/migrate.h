/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the module's files share. Functions return 0, or an error number below 0. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "uapi/migrate.h"

/* target.c */

/*
 * A process, by one of its threads, that the caller may look into; it does not become another program before put_target().
 * What becomes of its threads is another matter.
 */
struct task_struct *get_target(pid_t number);
void put_target(struct task_struct *task);
/* A thread that the caller traces, and that stood when this looked. To be let go of by put_task_struct(). */
struct task_struct *get_stopped(pid_t number);
/* Whether it is one, still: only its tracer, which is the caller, can have it go on, or its end. Its sighand must be locked. */
bool is_stopped_by_caller(struct task_struct *task);
/* As the kernel's function of that name, which modules are not given. NULL: it has been reaped. */
struct sighand_struct *lock_sighand(struct task_struct *task, unsigned long *flags);
void unlock_sighand(struct sighand_struct *sighand, unsigned long flags);

/* restore.c */

u32 features(void);
/* What a thread was interrupted in, if it was. */
enum migrate_wait interrupted_in(const struct task_struct *task);
long set_wait(const struct migrate_set_wait __user *from);
long set_next_timer(const struct migrate_set_next_timer __user *from);

/* cpu_time.c */

/* Whether it has not left its CPU, or is about to get one, whatever its state. */
bool is_on_cpu(const struct task_struct *task);
void read_cpu_time(struct migrate_cpu_time *to, const struct task_struct *task);
void read_process_time(struct migrate_process_time *to, const struct signal_struct *signal);
long set_cpu_time(const struct migrate_set_cpu_time __user *from);

/* watch.c */

struct watch;
void watch_init(void);
bool can_watch(void);
struct watch *begin_watch(struct task_struct *task);
/* May wait for as long as any processor takes to do something else. */
void end_watch(struct watch *watch);
bool watches(const struct watch *watch, struct task_struct *task);
/* Of a thread of the process that it watches. */
void read_cut(struct migrate_thread *to, struct watch *watch, const struct task_struct *task);

/* threads.c, timers.c */

long read_threads(struct migrate_read_threads __user *request, struct watch *watch);
long read_timers(struct migrate_read_timers __user *request);
long set_missed(const struct migrate_set_missed __user *from);
void threads_init(void);

#endif
