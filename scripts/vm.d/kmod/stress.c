/*
 * kmod-stress SECONDS: asks the module about processes that come, change and end all the time, with good and bad requests. It passes if
 * the kernel is still there, and every request was answered by one of the errors that it may have.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "uapi/migrate.h"

#define ASKERS 4
#define MAKERS 4
#define ROOM 64

struct shared {
	volatile int latest[MAKERS]; /* processes made last */
	volatile int own; /* no number up to this is asked about */
	volatile long made;
	volatile long answered, refused;
};

static struct shared *shared;
static time_t end;

static void *thread(void *argument)
{
	struct timespec time = { 0, 2000000 };
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_NONE };

	(void)argument;
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
		struct itimerspec soon = { { 0, 100000 }, { 0, 100000 } };

		timer_settime(timer, 0, &soon, NULL);
		if (rand() & 1)
			timer_delete(timer);
	}
	nanosleep(&time, NULL);
	return NULL;
}

static void make(int which)
{
	srand(getpid());
	while (time(NULL) < end) {
		pid_t pid = fork();

		if (pid == 0) {
			pthread_t threads[8];
			struct itimerval often = { { 0, 500 }, { 0, 500 } };
			int count = rand() % 8, started = 0;

			srand(getpid());
			signal(SIGALRM, SIG_IGN);
			setitimer(ITIMER_REAL, &often, NULL);
			while (started < count && pthread_create(&threads[started], NULL, thread, NULL) == 0)
				started++;
			switch (rand() % 4) {
			case 0:
				execl("/bin/true", "true", (char *)NULL);
				break;
			case 1:
				pthread_exit(NULL); /* the first one ends before the others */
			case 2:
				for (int i = 0; i < started; i++)
					pthread_join(threads[i], NULL);
				break;
			}
			syscall(SYS_exit_group, 0);
		}
		if (pid < 0)
			continue;
		shared->latest[which] = pid;
		__sync_fetch_and_add(&shared->made, 1);
		if (rand() & 1) {
			usleep(rand() % 3000);
			kill(pid, SIGKILL);
		}
		waitpid(pid, NULL, 0);
	}
}

/* A request may fail in these ways, whatever it was. */
static void answered(int result, const char *what)
{
	static const int may[] = { ESRCH, EPERM, EFAULT, EINVAL, EPROTO, ESTALE, ENOMEM, EOVERFLOW, EAGAIN };

	if (result == 0) {
		__sync_fetch_and_add(&shared->answered, 1);
		return;
	}
	__sync_fetch_and_add(&shared->refused, 1);
	for (unsigned i = 0; i < sizeof may / sizeof *may; i++)
		if (errno == may[i])
			return;
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static void ask(void)
{
	static struct migrate_thread threads[ROOM];
	static struct migrate_timer timers[ROOM];
	int device = open("/dev/migrate", O_RDWR | O_CLOEXEC);

	if (device < 0) {
		perror("/dev/migrate");
		exit(1);
	}
	srand(getpid());
	while (time(NULL) < end) {
		pid_t pid = shared->latest[rand() % MAKERS] + (rand() % 4 ? 0 : rand() % 4);
		uint64_t bad = (uint64_t[]){ 0, 8, ~0ull - 100, 0xffffffff81000000ull, 0x7fffffffff00ull }[rand() % 5];
		int broken = rand() % 8 == 0;
		struct migrate_watch watch = { .version = MIGRATE_VERSION, .pid = pid };
		struct migrate_read_threads all = {
			.version = MIGRATE_VERSION + (rand() % 16 == 0), .record_size = sizeof *threads, .pid = pid,
			.capacity = broken && rand() & 1 ? UINT32_MAX : rand() % (ROOM + 1), .records = broken ? bad : (uint64_t)threads,
		};
		struct migrate_read_timers of_process = {
			.version = MIGRATE_VERSION, .record_size = sizeof *timers + (rand() % 16 == 0), .pid = pid,
			.capacity = broken && rand() & 1 ? UINT32_MAX : rand() % (ROOM + 1), .timers = broken ? bad : (uint64_t)timers,
		};
		struct migrate_set_wait wait = {
			.version = MIGRATE_VERSION, .wait = rand() % 6, .tid = pid, .left = (int64_t)rand() * rand() * (rand() & 1 ? 1 : -1),
		};
		struct migrate_used used[] = { { .tid = pid, .used.runtime = rand() }, { .tid = pid + 1 } };
		struct migrate_set_cpu_time cpu_time = {
			.version = MIGRATE_VERSION, .record_size = sizeof *used, .pid = pid, .count = rand() % 3,
			.threads = broken ? bad : (uint64_t)used, .used.ended_user = rand() % 4 ? rand() : (uint64_t)rand() << 32,
		};
		struct migrate_set_missed missed = { .version = MIGRATE_VERSION, .pid = pid, .id = rand() % 4, .missed_last = rand() % 4 ? rand() : -1 };
		struct migrate_set_next_timer timer = { .version = MIGRATE_VERSION, .pid = pid, .id = rand() - rand() };

		if (!shared->own || pid <= shared->own)
			continue;
		switch (rand() % 7) {
		case 6:
			/* Also while what it watches ends, and before it is looked at. */
			close(device);
			device = open("/dev/migrate", O_RDWR | O_CLOEXEC);
			answered(ioctl(device, MIGRATE_WATCH, &watch), "watch");
			break;
		case 0:
		case 1:
			answered(ioctl(device, MIGRATE_READ_THREADS, &all), "read threads");
			break;
		case 2:
		case 3:
			answered(ioctl(device, MIGRATE_READ_TIMERS, &of_process), "read timers");
			break;
		case 4:
			answered(ioctl(device, MIGRATE_READ_THREADS, (void *)bad), "read threads, bad request");
			break;
		case 5:
			/* Sometimes it is the tracer, and the thread may end at any moment. */
			if (ptrace(PTRACE_SEIZE, pid, NULL, 0) == 0) {
				ptrace(PTRACE_INTERRUPT, pid, NULL, 0);
				if (rand() % 4)
					waitpid(pid, NULL, __WALL | (rand() & 1 ? WNOHANG : 0));
			}
			answered(ioctl(device, MIGRATE_SET_WAIT, &wait), "set a wait");
			answered(ioctl(device, MIGRATE_SET_NEXT_TIMER, &timer), "set the next timer");
			answered(ioctl(device, MIGRATE_SET_MISSED, &missed), "set how often a timer was missed");
			answered(ioctl(device, MIGRATE_SET_CPU_TIME, &cpu_time), "set the CPU time");
			if (ptrace(PTRACE_DETACH, pid, NULL, 0) != 0 && kill(pid, SIGKILL) == 0)
				waitpid(pid, NULL, __WALL);
			break;
		}
	}
}

int main(int argc, char **argv)
{
	int status, failed = 0;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (argc != 2 || shared == MAP_FAILED)
		return 2;
	end = time(NULL) + atoi(argv[1]);
	for (int i = 0; i < MAKERS; i++)
		if (fork() == 0) {
			make(i);
			_exit(0);
		}
	for (int i = 0; i < ASKERS; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			ask();
			_exit(0);
		}
		if (i == ASKERS - 1)
			shared->own = pid;
	}
	while (wait(&status) > 0)
		failed |= status;
	printf("stress: %ld processes, %ld requests answered, %ld refused\n", shared->made, shared->answered, shared->refused);
	return failed || !shared->made || !shared->answered || !shared->refused;
}
