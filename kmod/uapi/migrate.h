/* SPDX-License-Identifier: MIT OR GPL-2.0 WITH Linux-syscall-note */
/*
 * What /dev/migrate understands. A program and a module that were built from different versions of this file do not
 * work together, and say so: the module refuses a request of another version (EPROTO).
 *
 * Numbers of processes and threads are those of the caller's PID namespace, if nothing else is said; those of users and
 * groups are those of its user namespace. Times are nanoseconds. What is `reserved` is 0, or the request is refused.
 */
#ifndef MIGRATE_UAPI_H
#define MIGRATE_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MIGRATE_VERSION 2

/* What this module can do on this kernel. */
#define MIGRATE_CAN_SET_WAIT 1
#define MIGRATE_CAN_SET_NEXT_TIMER 2
#define MIGRATE_CAN_WATCH 4
#define MIGRATE_CAN_SET_CPU_TIME 8

struct migrate_hello {
	__u32 version; /* out: MIGRATE_VERSION */
	__u32 can;     /* out: MIGRATE_CAN_* */
};

/* What a thread goes on with when a call that a signal or a tracer has interrupted is made again. */
enum migrate_wait {
	MIGRATE_WAIT_NONE,
	MIGRATE_WAIT_SLEEP, /* nanosleep, clock_nanosleep */
	MIGRATE_WAIT_POLL,
	MIGRATE_WAIT_FUTEX,
	MIGRATE_WAIT_OTHER, /* of CPU time, by an alarm clock, or one that is not known here */
};

#define MIGRATE_GROUPS 32
/* Nanoseconds: 146 years. The kernel multiplies and divides these numbers, and must not come near their end. */
#define MIGRATE_MOST_CPU_TIME (1ULL << 62)

/* Bits of migrate_thread.unusual */
#define MIGRATE_TRAPS 1      /* RDTSC or CPUID fault, or its L1 cache is flushed */
#define MIGRATE_PORTS 2      /* it may use I/O ports */
#define MIGRATE_DISPATCHES 4 /* system calls may be handed to the program (prctl PR_SET_SYSCALL_USER_DISPATCH) */
#define MIGRATE_IS_ON_CPU 8  /* it has not left its CPU yet, or is about to get one: it has used more than is told */

/* Bits of migrate_thread.parted: what it does not share with the first thread */
#define MIGRATE_OWN_DIRECTORIES 1
#define MIGRATE_OWN_DESCRIPTORS 2
#define MIGRATE_OWN_NAMESPACES 4

/* The CPU time that a thread has used. */
struct migrate_cpu_time {
	__u64 runtime; /* exact: its CPU-time clock */
	__u64 user;    /* as ticks have found it: only the ratio of these two counts */
	__u64 system;
	__u64 shown_user; /* what getrusage(2) made of that last; it never tells less */
	__u64 shown_system;
};

/* That of a process beside its threads that there are. */
struct migrate_process_time {
	__u64 ended_runtime; /* of threads that have ended */
	__u64 ended_user;
	__u64 ended_system;
	__u64 shown_user; /* of the whole process */
	__u64 shown_system;
	__u64 children_user; /* of children that it has waited for */
	__u64 children_system;
};

struct migrate_thread {
	__s32 tid;
	__s32 own_tid; /* in its own PID namespace */
	__s32 own_pid;
	__u32 exit_state; /* not 0: it is ending */
	__u64 pending;    /* signals that wait; bit n-1 is signal n */
	__u64 shared_pending;
	__u64 clear_child_tid;
	__u64 robust_list;
	__u64 stack_address; /* of sigaltstack(2) */
	__u64 stack_size;
	__u32 stack_flags;
	__u32 personality;
	__u64 timer_slack;
	__u64 atomic_flags;  /* task_struct.atomic_flags (PFA_*) */
	__u64 debug_control; /* DR7, as a tracer has set it */
	__u64 filters;	     /* the same for threads with the same seccomp filters; 0: none */
	__u8 name[16];
	__u32 uid[4]; /* real, effective, saved, file system */
	__u32 gid[4];
	__u64 inheritable;
	__u64 permitted;
	__u64 effective;
	__u64 bounding;
	__u64 ambient;
	__u32 securebits;
	__u32 flags; /* task_struct.flags (PF_*) */
	__s32 parent_death_signal;
	__u32 unusual;
	__u32 parted;
	__u32 seccomp; /* 0 none, 1 strict, 2 filters */
	__u32 wait;    /* enum migrate_wait */
	__u32 group_count; /* may be more than there is room for */
	__u32 groups[MIGRATE_GROUPS];
	__u64 restart[5]; /* of a wait: what struct restart_block holds behind its function */
	/* Of the last wait that was cut short while this file watched the process: when it would have ended, and when that was. */
	__u64 cut_end; /* CLOCK_MONOTONIC of the host, like the other one */
	__u64 cut_at;
	__u64 cuts; /* how many were; 0: none */
	struct migrate_cpu_time used;
};

struct migrate_read_threads {
	__u32 version;	   /* MIGRATE_VERSION */
	__u32 record_size; /* sizeof(struct migrate_thread) */
	__s32 pid;
	__u32 capacity; /* records that there is room for */
	__u64 records;	/* address of that room */
	__u64 now;	/* out: CLOCK_MONOTONIC of the host when they were read */
	__u64 boot_now; /* out: CLOCK_BOOTTIME of it */
	__u32 count;	/* out: threads that there are; the room holds the first of them */
	__u32 watched;	/* 0; out: 1 if this file watches the process */
	struct migrate_process_time used; /* out */
};

/* Bits of migrate_timer.state */
#define MIGRATE_TIMER_IS_SET 1
#define MIGRATE_TIMER_NOT_READ 2 /* of CPU time or of an alarm clock: whether it is set, and `left`, is not told */

struct migrate_timer {
	__s32 id;
	__u32 state;
	__u64 interval;
	__s64 left;   /* below 0: it has expired so long ago, and is not moved on until its signal is taken, or somebody asks */
	__s64 missed; /* expiries before `left`, since the one whose signal waits and without it; -1: that one is at `left` */
	__s64 missed_last; /* what timer_getoverrun says */
};

struct migrate_read_timers {
	__u32 version;	   /* MIGRATE_VERSION */
	__u32 record_size; /* sizeof(struct migrate_timer) */
	__s32 pid;
	__u32 capacity; /* timers that there is room for */
	__u64 timers;	/* address of that room */
	__u32 count;	/* out: POSIX timers that there are */
	__u32 reserved;
};

/*
 * Has the wait that a thread of the caller, which is traced and stopped, has been interrupted in end so long from now.
 * ESRCH: it is none such. ESTALE: it has not been interrupted in a wait of that kind, or in one by another clock than the
 * kind allows (of a sleep, CLOCK_MONOTONIC, CLOCK_BOOTTIME or CLOCK_TAI; of the others, CLOCK_MONOTONIC).
 */
struct migrate_set_wait {
	__u32 version; /* MIGRATE_VERSION */
	__u32 wait;    /* enum migrate_wait */
	__s32 tid;
	__u32 reserved;
	__s64 left; /* below 0: it is over */
};

/* Has the next POSIX timer of a process, whose first thread is the caller's to trace and stopped, get this ID if it is free. */
struct migrate_set_next_timer {
	__u32 version; /* MIGRATE_VERSION */
	__s32 pid;
	__s32 id;
	__u32 reserved;
};

/*
 * Has timer_getoverrun(2) say this of a timer of a process, one thread of which is the caller's to trace and stopped, until it notifies
 * again. EINVAL: there is no such timer, or no such number.
 */
struct migrate_set_missed {
	__u32 version; /* MIGRATE_VERSION */
	__s32 pid;
	__s32 id;
	__u32 reserved;
	__s64 missed_last;
};

struct migrate_used {
	__s32 tid;
	__u32 reserved;
	struct migrate_cpu_time used;
};

/*
 * Has threads of a process have used so much CPU time, and the process beside them. Each of them, and the one that names the process,
 * is the caller's to trace and stopped, or nothing is changed: ESRCH. EINVAL: there are not so many. EOVERFLOW: altogether more than
 * MIGRATE_MOST_CPU_TIME. EAGAIN: one of them does not get off its CPU.
 */
struct migrate_set_cpu_time {
	__u32 version;	   /* MIGRATE_VERSION */
	__u32 record_size; /* sizeof(struct migrate_used) */
	__s32 pid;
	__u32 count;
	__u64 threads; /* address of so many of them */
	struct migrate_process_time used;
};

/* From now on until the file is closed, waits of this process are watched: see migrate_thread.cuts. EBUSY: it watches one already. */
struct migrate_watch {
	__u32 version; /* MIGRATE_VERSION */
	__s32 pid;
};

#define MIGRATE_HELLO _IOR('M', 0x60, struct migrate_hello)
#define MIGRATE_READ_THREADS _IOWR('M', 0x61, struct migrate_read_threads)
#define MIGRATE_READ_TIMERS _IOWR('M', 0x62, struct migrate_read_timers)
#define MIGRATE_SET_WAIT _IOW('M', 0x63, struct migrate_set_wait)
#define MIGRATE_SET_NEXT_TIMER _IOW('M', 0x64, struct migrate_set_next_timer)
#define MIGRATE_WATCH _IOW('M', 0x65, struct migrate_watch)
#define MIGRATE_SET_CPU_TIME _IOW('M', 0x66, struct migrate_set_cpu_time)
#define MIGRATE_SET_MISSED _IOW('M', 0x67, struct migrate_set_missed)

/* No gaps, nothing that another compiler could lay out otherwise. */
#ifndef __cplusplus
_Static_assert(sizeof(struct migrate_hello) == 8, "migrate_hello");
_Static_assert(sizeof(struct migrate_cpu_time) == 40, "migrate_cpu_time");
_Static_assert(sizeof(struct migrate_process_time) == 56, "migrate_process_time");
_Static_assert(sizeof(struct migrate_thread) == 456, "migrate_thread");
_Static_assert(sizeof(struct migrate_read_threads) == 104, "migrate_read_threads");
_Static_assert(sizeof(struct migrate_timer) == 40, "migrate_timer");
_Static_assert(sizeof(struct migrate_read_timers) == 32, "migrate_read_timers");
_Static_assert(sizeof(struct migrate_set_wait) == 24, "migrate_set_wait");
_Static_assert(sizeof(struct migrate_set_next_timer) == 16, "migrate_set_next_timer");
_Static_assert(sizeof(struct migrate_watch) == 8, "migrate_watch");
_Static_assert(sizeof(struct migrate_set_missed) == 24, "migrate_set_missed");
_Static_assert(sizeof(struct migrate_used) == 48, "migrate_used");
_Static_assert(sizeof(struct migrate_set_cpu_time) == 80, "migrate_set_cpu_time");
#endif

#endif
