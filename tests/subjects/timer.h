/* POSIX timers by the system calls themselves: libc has IDs of its own. */
#ifndef TIMER_H
#define TIMER_H
#include "subject.h"

#define CLOCK_OF_THREAD(tid) ((int)(~(unsigned)(tid) << 3 | 6))

/* `thread`: with SIGEV_THREAD_ID. Returns its ID, or -1. */
static UNUSED int try_timer(int clock, int notify, int signal, uint64_t value, pid_t thread)
{
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = signal };
	int id = -1;

	event.sigev_value.sival_ptr = (void *)value;
	event._sigev_un._tid = thread;
	return syscall(SYS_timer_create, clock, &event, &id) == 0 ? id : -1;
}

static UNUSED int make_timer(int clock, int notify, int signal, uint64_t value, pid_t thread)
{
	int id = try_timer(clock, notify, signal, value, thread);

	NEED(id >= 0);
	return id;
}

static UNUSED struct timespec to_time(int64_t ns)
{
	return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

static UNUSED int64_t to_ns(struct timespec time)
{
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static UNUSED int set_timer(int id, int flags, int64_t value_ns, int64_t interval_ns)
{
	struct itimerspec set = { to_time(interval_ns), to_time(value_ns) };

	return (int)syscall(SYS_timer_settime, id, flags, &set, NULL);
}

static UNUSED struct itimerspec get_timer(int id)
{
	struct itimerspec left;

	EXPECT(syscall(SYS_timer_gettime, id, &left) == 0, "timer %d: %s", id, strerror(errno));
	return left;
}

/* The next of these signals, if one waits for at most so long; info->si_signo is 0 when none does. */
static UNUSED siginfo_t take_signal(sigset_t set, long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	siginfo_t info = { 0 };

	if (syscall(SYS_rt_sigtimedwait, &set, &info, &time, 8) < 0) {
		EXPECT(errno == EAGAIN, "rt_sigtimedwait: %s", strerror(errno));
		info.si_signo = 0;
	}
	return info;
}

static UNUSED sigset_t signals_from(int first, int last)
{
	sigset_t set;

	sigemptyset(&set);
	for (int signal = first; signal <= last; signal++)
		sigaddset(&set, signal);
	return set;
}

#endif
