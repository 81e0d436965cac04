/* kmod-check: the module tells what is so, sets what it is told to, and refuses the rest. Says what is wrong, and fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define ROOM 64
#define THREADS 5
#define ALL(...) ((struct migrate_read_threads){ .version = MIGRATE_VERSION, .record_size = sizeof *records, .capacity = ROOM, \
						 .records = (uint64_t)records, __VA_ARGS__ })
#define TIMERS(...) ((struct migrate_read_timers){ .version = MIGRATE_VERSION, .record_size = sizeof *timers, .capacity = ROOM, \
						  .timers = (uint64_t)timers, __VA_ARGS__ })

static struct migrate_thread records[ROOM];
static struct migrate_timer timers[ROOM];

static void refusals(void)
{
	struct migrate_hello hello;
	struct migrate_read_threads all;
	struct migrate_read_timers whole;
	struct migrate_set_wait wait = { .version = MIGRATE_VERSION, .wait = MIGRATE_WAIT_SLEEP, .tid = getpid() };
	struct migrate_set_next_timer timer = { .version = MIGRATE_VERSION, .pid = getpid() };
	struct migrate_watch watch = { .version = MIGRATE_VERSION, .pid = 2 };

	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_WATCH, 8));
	FAILS_WITH(EPERM, ioctl(device, MIGRATE_WATCH, &watch));
	watch.pid = -1;
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_WATCH, &watch));
	watch.version = 0;
	FAILS_WITH(EPROTO, ioctl(device, MIGRATE_WATCH, &watch));
	EXPECT(ioctl(device, MIGRATE_HELLO, &hello) == 0 && hello.version == MIGRATE_VERSION);
	EXPECT(hello.can == (MIGRATE_CAN_SET_WAIT | MIGRATE_CAN_SET_NEXT_TIMER | MIGRATE_CAN_WATCH | MIGRATE_CAN_SET_CPU_TIME));
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_HELLO, 8));
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_READ_THREADS, 8));
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_READ_TIMERS, 8));
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_SET_WAIT, 8));
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_SET_NEXT_TIMER, 8));
	FAILS_WITH(ENOTTY, ioctl(device, _IO('M', 0x7f)));
	all = ALL(.pid = getpid(), .version = MIGRATE_VERSION + 1);
	FAILS_WITH(EPROTO, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = getpid(), .record_size = sizeof *records - 8);
	FAILS_WITH(EPROTO, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = getpid(), .watched = 1);
	FAILS_WITH(EINVAL, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = getpid(), .records = 8);
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = getpid(), .records = 0xffffffff81000000);
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = 0);
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = -1);
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_READ_THREADS, &all));
	all = ALL(.pid = 2); /* kthreadd */
	FAILS_WITH(EPERM, ioctl(device, MIGRATE_READ_THREADS, &all));
	whole = TIMERS(.pid = 2);
	FAILS_WITH(EPERM, ioctl(device, MIGRATE_READ_TIMERS, &whole));
	whole = TIMERS(.pid = getpid(), .version = 0);
	FAILS_WITH(EPROTO, ioctl(device, MIGRATE_READ_TIMERS, &whole));
	whole = TIMERS(.pid = getpid(), .reserved = 1);
	FAILS_WITH(EINVAL, ioctl(device, MIGRATE_READ_TIMERS, &whole));
	/* Not traced; not even by itself. */
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_WAIT, &wait));
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_NEXT_TIMER, &timer));
	wait.version = 0;
	FAILS_WITH(EPROTO, ioctl(device, MIGRATE_SET_WAIT, &wait));
	timer.id = -1;
	FAILS_WITH(EINVAL, ioctl(device, MIGRATE_SET_NEXT_TIMER, &timer));
}

/* Who has no CAP_SYS_PTRACE is told nothing, not even of itself, also if somebody gave it the device. */
static void without_privilege(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct migrate_read_threads all = ALL(.pid = 1);
		struct migrate_read_timers whole = TIMERS(.pid = getppid());
		struct migrate_watch watch = { .version = MIGRATE_VERSION, .pid = getpid() };

		if (setresgid(1000, 1000, 1000) != 0 || setresuid(1000, 1000, 1000) != 0)
			_exit(3);
		EXPECT(open("/dev/migrate", O_RDWR) == -1 && errno == EACCES);
		FAILS_WITH(EPERM, ioctl(device, MIGRATE_READ_THREADS, &all));
		all = ALL(.pid = getpid());
		FAILS_WITH(EPERM, ioctl(device, MIGRATE_READ_THREADS, &all));
		FAILS_WITH(EPERM, ioctl(device, MIGRATE_READ_TIMERS, &whole));
		FAILS_WITH(EPERM, ioctl(device, MIGRATE_WATCH, &watch));
		_exit(failures);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
}

struct own {
	pthread_barrier_t *barrier;
	int number, tid;
	int *clear;
	void *robust;
	size_t robust_size;
	char stack[16384];
};

static void *own(void *argument)
{
	struct own *own = argument;
	stack_t stack = { .ss_sp = own->stack, .ss_size = sizeof own->stack };
	char name[16];
	sigset_t set;

	snprintf(name, sizeof name, "thread %d", own->number);
	own->tid = syscall(SYS_gettid);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_TIMERSLACK, 70000 + own->number);
	prctl(PR_SET_PDEATHSIG, 30 + own->number);
	sigaltstack(&stack, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_kill(pthread_self(), SIGUSR1);
	prctl(40 /* PR_GET_TID_ADDRESS */, &own->clear);
	syscall(SYS_get_robust_list, 0, &own->robust, &own->robust_size);
	if (own->number == 1)
		syscall(SYS_unshare, 0x200 /* CLONE_FS */);
	pthread_barrier_wait(own->barrier);
	pthread_barrier_wait(own->barrier);
	return NULL;
}

static void threads(void)
{
	static struct own all[THREADS];
	pthread_barrier_t barrier;
	pthread_t made[THREADS];
	struct migrate_read_threads request;
	int64_t before;

	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++) {
		all[i] = (struct own){ .barrier = &barrier, .number = i };
		pthread_create(&made[i], NULL, own, &all[i]);
	}
	pthread_barrier_wait(&barrier);
	before = now(CLOCK_MONOTONIC);
	request = ALL(.pid = getpid());
	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &request) == 0 && request.count == THREADS + 1);
	EXPECT((int64_t)request.now >= before && (int64_t)request.now <= now(CLOCK_MONOTONIC));
	EXPECT(request.boot_now >= request.now);
	EXPECT(records[0].tid == getpid() && records[0].own_pid == getpid());
	for (int i = 0; i < THREADS; i++) {
		const struct migrate_thread *told = NULL;
		char name[16];

		for (int k = 0; k < THREADS + 1; k++)
			if (records[k].tid == all[i].tid)
				told = &records[k];
		if (!told) {
			wrong(__LINE__, "a thread is missing");
			continue;
		}
		snprintf(name, sizeof name, "thread %d", i);
		EXPECT(strcmp((const char *)told->name, name) == 0);
		EXPECT(told->own_tid == all[i].tid && told->own_pid == getpid() && told->exit_state == 0);
		EXPECT(told->timer_slack == 70000u + i && told->parent_death_signal == 30 + i);
		EXPECT(told->stack_address == (uint64_t)all[i].stack && told->stack_size == sizeof all[i].stack);
		EXPECT(told->pending == 1u << (SIGUSR1 - 1) && told->shared_pending == 0);
		EXPECT(told->robust_list == (uint64_t)all[i].robust);
		EXPECT(told->clear_child_tid == (uint64_t)all[i].clear);
		EXPECT(told->uid[0] == 0 && told->gid[3] == 0 && told->effective != 0 && told->seccomp == 0 && told->filters == 0);
		EXPECT(told->parted == (i == 1 ? MIGRATE_OWN_DIRECTORIES : 0u));
		EXPECT((told->unusual & ~MIGRATE_IS_ON_CPU) == 0 && told->cuts == 0 && told->cut_end == 0 && told->cut_at == 0);
	}
	/* The room is not left. */
	memset(records, 0x5a, sizeof records);
	request = ALL(.pid = getpid(), .capacity = 2);
	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &request) == 0 && request.count == THREADS + 1);
	EXPECT(records[1].tid != 0x5a5a5a5a && records[2].tid == 0x5a5a5a5a);
	request = ALL(.pid = getpid(), .capacity = 0, .records = 0);
	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &request) == 0 && request.count == THREADS + 1);
	/* By any of them. */
	request = ALL(.pid = all[0].tid);
	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &request) == 0 && request.count == THREADS + 1);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < THREADS; i++)
		pthread_join(made[i], NULL);
}

static struct migrate_timer *timer_of(timer_t id)
{
	for (int i = 0; i < ROOM; i++)
		if (timers[i].id == *(int *)&id)
			return &timers[i];
	wrong(__LINE__, "a timer is missing");
	return &timers[0];
}

/* In a process of its own, which its parent traces: `told` is what it has the parent know. */
static void with_timers(int go, int told)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
	struct itimerspec often = { { 0, 10000000 }, { 0, 10000000 } }, late = { { 0, 0 }, { 100, 0 } }, never = { { 0, 0 }, { 0, 0 } };
	struct migrate_read_timers all = TIMERS(.pid = getpid());
	timer_t waits, silent, off, cpu, once;
	sigset_t blocked;
	siginfo_t info;
	char byte;

	EXPECT(ioctl(device, MIGRATE_READ_TIMERS, &all) == 0 && all.count == 0);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	/* SIGUSR2 comes once, and is missed from then on. */
	EXPECT(timer_create(CLOCK_MONOTONIC, &event, &waits) == 0 && timer_settime(waits, 0, &often, NULL) == 0);
	EXPECT(timer_create(CLOCK_REALTIME, &event, &off) == 0 && timer_settime(off, 0, &late, NULL) == 0 && timer_settime(off, 0, &never, NULL) == 0);
	EXPECT(timer_create(CLOCK_TAI, &event, &once) == 0 && timer_settime(once, 0, &late, NULL) == 0);
	EXPECT(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &cpu) == 0 && timer_settime(cpu, 0, &late, NULL) == 0);
	event.sigev_notify = SIGEV_NONE;
	EXPECT(timer_create(CLOCK_BOOTTIME, &event, &silent) == 0 && timer_settime(silent, 0, &late, NULL) == 0);
	usleep(100000);
	EXPECT(ioctl(device, MIGRATE_READ_TIMERS, &all) == 0 && all.count == 5);
	EXPECT(timer_of(waits)->interval == 10000000 && timer_of(waits)->state == MIGRATE_TIMER_IS_SET && timer_of(waits)->missed_last == 0);
	/* Nothing has been counted yet: it stands where it has expired first. */
	EXPECT(timer_of(waits)->missed == -1 && timer_of(waits)->left < -80000000 && timer_of(waits)->left > -1000000000);
	EXPECT(timer_of(off)->state == 0 && timer_of(off)->left == 0 && timer_of(off)->interval == 0);
	EXPECT(timer_of(cpu)->state == MIGRATE_TIMER_NOT_READ && timer_of(cpu)->left == 0);
	for (int i = 0; i < 2; i++) {
		const struct migrate_timer *timer = timer_of(i ? silent : once);

		EXPECT(timer->state == MIGRATE_TIMER_IS_SET && timer->interval == 0 && timer->left > 90000000000 && timer->left < 100000000000);
	}
	/* Asked for, it is moved on. */
	EXPECT(timer_gettime(waits, &often) == 0);
	EXPECT(ioctl(device, MIGRATE_READ_TIMERS, &all) == 0);
	EXPECT(timer_of(waits)->missed >= 8 && timer_of(waits)->left > -80000000 && timer_of(waits)->left <= 10000000);
	EXPECT(sigwaitinfo(&blocked, &info) == SIGUSR2 && info.si_overrun > 8);
	EXPECT(ioctl(device, MIGRATE_READ_TIMERS, &all) == 0 && timer_of(waits)->missed_last == info.si_overrun);
	memset(timers, 0x5a, sizeof timers);
	all = TIMERS(.pid = getpid(), .capacity = 1);
	EXPECT(ioctl(device, MIGRATE_READ_TIMERS, &all) == 0 && all.count == 5);
	EXPECT(timers[0].id != 0x5a5a5a5a && timers[1].id == 0x5a5a5a5a);
	EXPECT(timer_settime(waits, 0, &never, NULL) == 0 && timer_getoverrun(waits) == 0);
	EXPECT(write(told, &waits, sizeof waits) == sizeof waits && read(go, &byte, 1) == 1);
	EXPECT(timer_getoverrun(waits) == 4711 && timer_getoverrun(once) == 0);
	_exit(failures != 0);
}

static void missed(void)
{
	struct migrate_set_missed set = { .version = MIGRATE_VERSION, .missed_last = 4711 };
	int go[2], told[2], status;
	timer_t timer;
	pid_t pid;

	EXPECT(pipe(go) == 0 && pipe(told) == 0);
	pid = fork();
	if (pid == 0)
		with_timers(go[0], told[1]);
	EXPECT(read(told[0], &timer, sizeof timer) == sizeof timer);
	set.pid = pid;
	set.id = *(int *)&timer;
	FAILS_WITH(EFAULT, ioctl(device, MIGRATE_SET_MISSED, 8));
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_MISSED, &set)); /* nobody traces it */
	EXPECT(ptrace(PTRACE_SEIZE, pid, NULL, 0) == 0);
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_MISSED, &set)); /* it runs */
	EXPECT(ptrace(PTRACE_INTERRUPT, pid, NULL, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	for (int bad = 0; bad < 5; bad++) {
		struct migrate_set_missed wrong_one = set;

		wrong_one.version += bad == 0;
		wrong_one.reserved = bad == 1;
		wrong_one.id += 100 * (bad == 2);
		if (bad >= 3)
			wrong_one.missed_last = bad == 3 ? -1 : 1ll << 31;
		FAILS_WITH(bad == 0 ? EPROTO : EINVAL, ioctl(device, MIGRATE_SET_MISSED, &wrong_one));
	}
	EXPECT(ioctl(device, MIGRATE_SET_MISSED, &set) == 0);
	EXPECT(ptrace(PTRACE_DETACH, pid, NULL, 0) == 0 && write(go[1], "", 1) == 1);
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
}

/* What a child waits in, for 1000 s; then, if it was told to, it makes a timer, and ends with that one's ID. */
static int waits_in(int which)
{
	static uint32_t word = 7;
	struct timespec time = { 1000, 0 };

	switch (which) {
	case 0:
		return syscall(SYS_nanosleep, &time, NULL) == 0;
	case 1:
		return syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &time, NULL) == 0;
	case 2:
		return syscall(SYS_poll, NULL, 0, 1000000) == 0;
	default:
		return syscall(SYS_futex, &word, FUTEX_WAIT, 7, &time, NULL, 0) == -1 && errno == ETIMEDOUT;
	}
}

static void wait_end(int which, uint32_t kind, int64_t left)
{
	struct migrate_set_wait wait = { .version = MIGRATE_VERSION, .wait = kind, .left = left };
	struct migrate_set_next_timer timer = { .version = MIGRATE_VERSION, .id = 12345 };
	struct migrate_read_threads all;
	int64_t began, took;
	int status;
	pid_t pid = fork(), other;

	if (pid == 0) {
		timer_t made;
		struct sigevent event = { .sigev_notify = SIGEV_NONE };

		if (!waits_in(which))
			_exit(2);
		_exit(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &made) == 0 && *(int *)&made == 12345 ? 0 : 3);
	}
	wait.tid = timer.pid = pid;
	usleep(100000);
	EXPECT(ptrace(PTRACE_SEIZE, pid, NULL, 0) == 0);
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_WAIT, &wait)); /* it runs */
	FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_NEXT_TIMER, &timer));
	EXPECT(ptrace(PTRACE_INTERRUPT, pid, NULL, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	all = ALL(.pid = pid);
	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &all) == 0 && all.count == 1 && records[0].wait == kind);
	for (uint32_t no = MIGRATE_WAIT_NONE; no <= MIGRATE_WAIT_OTHER + 1; no++)
		if (no != kind) {
			wait.wait = no;
			FAILS_WITH(ESTALE, ioctl(device, MIGRATE_SET_WAIT, &wait));
		}
	wait.wait = kind;
	other = fork();
	if (other == 0) { /* another one than its tracer */
		failures = 0;
		FAILS_WITH(ESRCH, ioctl(device, MIGRATE_SET_WAIT, &wait));
		_exit(failures);
	}
	EXPECT(waitpid(other, &status, 0) == other && status == 0);
	EXPECT(ioctl(device, MIGRATE_SET_NEXT_TIMER, &timer) == 0);
	began = now(CLOCK_MONOTONIC);
	EXPECT(ioctl(device, MIGRATE_SET_WAIT, &wait) == 0);
	EXPECT(ptrace(PTRACE_DETACH, pid, NULL, 0) == 0);
	EXPECT(waitpid(pid, &status, 0) == pid);
	took = now(CLOCK_MONOTONIC) - began;
	if (status != 0)
		printf("wait %d ends with %d\n", which, WEXITSTATUS(status));
	EXPECT(status == 0);
	printf("wait %d: to end after %lld us, ended after %lld\n", which, (long long)left / 1000, (long long)took / 1000);
	EXPECT(took >= left && took < (left > 0 ? left : 0) + 500000000);
}

/* A wait of which the kernel notes nothing when it is cut short, which happens twice. */
static void watch(void)
{
	struct migrate_watch watch = { .version = MIGRATE_VERSION };
	struct migrate_read_threads all;
	struct timespec time = { 1000, 0 };
	int status, other;
	int64_t began = now(CLOCK_MONOTONIC), end;
	sigset_t set;
	pid_t pid = fork();

	if (pid == 0) {
		sigemptyset(&set);
		for (;;)
			syscall(SYS_rt_sigtimedwait, &set, NULL, &time, 8);
	}
	watch.pid = pid;
	other = open("/dev/migrate", O_RDWR | O_CLOEXEC);
	usleep(100000);
	end = now(CLOCK_MONOTONIC) + 1000000000000;
	EXPECT(ioctl(other, MIGRATE_WATCH, &watch) == 0);
	FAILS_WITH(EBUSY, ioctl(other, MIGRATE_WATCH, &watch));
	all = ALL(.pid = pid);
	EXPECT(ioctl(other, MIGRATE_READ_THREADS, &all) == 0 && all.watched == 1 && records[0].cuts == 0);
	EXPECT(ptrace(PTRACE_SEIZE, pid, NULL, 0) == 0);
	for (unsigned cut = 1; cut <= 2; cut++) {
		EXPECT(ptrace(PTRACE_INTERRUPT, pid, NULL, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
		all = ALL(.pid = pid);
		EXPECT(ioctl(other, MIGRATE_READ_THREADS, &all) == 0 && all.watched == 1 && all.count == 1 && records[0].cuts == cut);
		EXPECT(records[0].cut_at <= all.now && all.now - records[0].cut_at < 500000000);
		EXPECT((int64_t)records[0].cut_end > began + 1000000000000 && (int64_t)records[0].cut_end <= end);
		EXPECT(ptrace(PTRACE_CONT, pid, NULL, 0) == 0);
		usleep(100000);
		end = now(CLOCK_MONOTONIC) + 1000000000000;
	}
	all = ALL(.pid = pid); /* this one does not watch it, and that one nothing else */
	EXPECT(ioctl(device, MIGRATE_READ_THREADS, &all) == 0 && all.watched == 0 && records[0].cuts == 0);
	all = ALL(.pid = getpid());
	EXPECT(ioctl(other, MIGRATE_READ_THREADS, &all) == 0 && all.watched == 0 && records[0].cuts == 0);
	kill(pid, SIGKILL);
	EXPECT(waitpid(pid, &status, 0) == pid);
	all = ALL(.pid = pid);
	FAILS_WITH(ESRCH, ioctl(other, MIGRATE_READ_THREADS, &all));
	FAILS_WITH(EBUSY, ioctl(other, MIGRATE_WATCH, &watch));
	close(other);
	other = open("/dev/migrate", O_RDWR | O_CLOEXEC);
	FAILS_WITH(ESRCH, ioctl(other, MIGRATE_WATCH, &watch));
	close(other);
}

int main(void)
{
	open_device();
	refusals();
	without_privilege();
	threads();
	watch();
	missed();
	wait_end(0, MIGRATE_WAIT_SLEEP, 200000000);
	wait_end(1, MIGRATE_WAIT_SLEEP, 200000000);
	wait_end(2, MIGRATE_WAIT_POLL, 200500000);
	wait_end(3, MIGRATE_WAIT_FUTEX, 200000000);
	wait_end(0, MIGRATE_WAIT_SLEEP, 0);
	wait_end(2, MIGRATE_WAIT_POLL, -1000000000000000);
	wait_end(3, MIGRATE_WAIT_FUTEX, -5);
	return failures != 0;
}
