/*
 * What every subject shares.
 *
 * A subject sets something up, writes `ready` (its PID) into its directory,
 * waits until `check` appears there, checks itself and writes `result`:
 * "ok", "skipped: why" or "FAILED: what went wrong".
 *
 * Nothing here keeps a descriptor open, starts a thread or allocates: what a
 * subject holds is what its own file says.
 */
#ifndef SUBJECT_H
#define SUBJECT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define UNUSED __attribute__((unused))

static char subject_dir[PATH_MAX - 64] UNUSED;

static UNUSED const char *path_of(const char *name)
{
	static __thread char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", subject_dir, name);
	return path;
}

/* Under another name first: a reader never sees half a file. */
static UNUSED void write_whole(const char *name, const char *text)
{
	char temporary[64], to[PATH_MAX];
	int fd;

	snprintf(temporary, sizeof temporary, "%s.%d", name, (int)syscall(SYS_gettid));
	snprintf(to, sizeof to, "%s", path_of(name));
	fd = open(path_of(temporary), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0)
		_exit(3);
	if (rename(path_of(temporary), to) != 0)
		_exit(3);
}

static UNUSED void __attribute__((noreturn, format(printf, 1, 2))) failed(const char *format, ...)
{
	char text[1024];
	int length = snprintf(text, sizeof text, "FAILED: ");
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + length, sizeof text - length - 1, format, arguments);
	va_end(arguments);
	strcat(text, "\n");
	write_whole("result", text);
	_exit(1);
}

static UNUSED void __attribute__((noreturn)) passed(void)
{
	write_whole("result", "ok\n");
	_exit(0);
}

static UNUSED void __attribute__((noreturn)) skipped(const char *why)
{
	char text[256];

	snprintf(text, sizeof text, "skipped: %s\n", why);
	write_whole("result", text);
	_exit(0);
}

/* A condition of the set-up, before the move. */
#define NEED(condition)                                                              \
	do {                                                                         \
		if (!(condition))                                                    \
			failed("setting up: %s: %s", #condition, strerror(errno));   \
	} while (0)

/* A condition after the move. */
#define EXPECT(condition, ...)                                                       \
	do {                                                                         \
		if (!(condition))                                                    \
			failed(__VA_ARGS__);                                         \
	} while (0)

#define EXPECT_EQ(what, got, expected)                                               \
	do {                                                                         \
		long long got_ = (long long)(got), expected_ = (long long)(expected); \
		if (got_ != expected_)                                               \
			failed("%s: expected %lld (0x%llx), got %lld (0x%llx)", what, expected_, \
			       expected_, got_, got_);                               \
	} while (0)

/* A call after the move that must succeed. */
#define EXPECT_OK(call)                                                              \
	do {                                                                         \
		if ((call) == -1)                                                    \
			failed("%s: %s", #call, strerror(errno));                    \
	} while (0)

static UNUSED void begin(int argc, char **argv)
{
	if (argc < 2 || strlen(argv[1]) >= sizeof subject_dir) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		_exit(2);
	}
	strcpy(subject_dir, argv[1]);
	/* What whoever started this has leaked is no part of the test. */
	syscall(SYS_close_range, 3, ~0U, 0);
}

static UNUSED void ready(void)
{
	char text[32];

	snprintf(text, sizeof text, "%d\n", (int)getpid());
	write_whole("ready", text);
}

static UNUSED int check_wanted(void)
{
	struct stat status;

	return stat(path_of("check"), &status) == 0;
}

static UNUSED void pause_ms(long ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* Makes a process that has all that this one has now, and is nobody's child. It ends soon after this one. */
static UNUSED void leave_one_behind(void)
{
	pid_t self = getpid(), between = fork();

	NEED(between >= 0);
	if (between == 0) {
		if (fork() == 0)
			while (kill(self, 0) == 0)
				pause_ms(50);
		_exit(0);
	}
	NEED(waitpid(between, NULL, 0) == between);
}

static UNUSED void await_check(void)
{
	while (!check_wanted())
		pause_ms(5);
}

static UNUSED int64_t now_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Any number below `below`. What comes next is in `*chance`, which must not be 0. */
static UNUSED uint64_t any(uint64_t *chance, uint64_t below)
{
	*chance ^= *chance << 13;
	*chance ^= *chance >> 7;
	*chance ^= *chance << 17;
	return *chance % below;
}

/* Content that says where it belongs: two pages are never alike. */
static UNUSED uint64_t pattern(uint64_t seed, uint64_t index)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + index + 1;

	x ^= x >> 31;
	x *= 0xbf58476d1ce4e5b9ULL;
	return x ^ x >> 29;
}

static UNUSED void fill(void *at, size_t length, uint64_t seed)
{
	uint64_t *words = at;

	for (size_t i = 0; i < length / 8; i++)
		words[i] = pattern(seed, i);
}

static UNUSED void expect_filled(const char *what, const void *at, size_t length, uint64_t seed)
{
	const uint64_t *words = at;

	for (size_t i = 0; i < length / 8; i++)
		EXPECT(words[i] == pattern(seed, i), "%s: at byte %zu: expected 0x%llx, got 0x%llx", what, i * 8,
		       (unsigned long long)pattern(seed, i), (unsigned long long)words[i]);
}

static UNUSED void expect_zero(const char *what, const void *at, size_t length)
{
	const uint64_t *words = at;

	for (size_t i = 0; i < length / 8; i++)
		EXPECT(words[i] == 0, "%s: at byte %zu: expected 0, got 0x%llx", what, i * 8,
		       (unsigned long long)words[i]);
}

/* Whether memory can be read, without a signal when it cannot. */
static UNUSED int readable(const void *at)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { (void *)at, 1 };

	return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

static UNUSED int writable(void *at)
{
	char byte = 0;
	struct iovec here = { &byte, 1 }, there = { at, 1 };

	return readable(at) && process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1 &&
	       process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 1;
}

static UNUSED void *map_anonymous(size_t length)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(at != MAP_FAILED);
	return at;
}

/* A new file of patterned pages; each page's seed is `seed` + its number. */
static UNUSED int make_file(const char *name, size_t pages, uint64_t seed)
{
	int fd = open(path_of(name), O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0666);
	uint64_t page[PAGE / 8];

	NEED(fd >= 0);
	for (size_t i = 0; i < pages; i++) {
		fill(page, PAGE, seed + i);
		NEED(write(fd, page, PAGE) == (ssize_t)PAGE);
	}
	return fd;
}

/* The whole of a file, its length returned. */
static UNUSED size_t read_whole(const char *path, char *into, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	EXPECT(fd >= 0, "open %s: %s", path, strerror(errno));
	while ((got = read(fd, into + length, room - length)) > 0)
		length += got;
	close(fd);
	return length;
}

struct thread_start {
	void *(*body)(void *);
	void *argument;
	volatile int begun;
};

static void *thread_begins(void *of)
{
	struct thread_start *start = of, copy = *start;

	start->begun = 1;
	return copy.body(copy.argument);
}

/* Returns when it runs what it was started for: before that it blocks all signals. */
static UNUSED pthread_t start_thread(void *(*body)(void *), void *argument)
{
	struct thread_start start = { .body = body, .argument = argument };
	pthread_t thread;

	NEED(pthread_create(&thread, NULL, thread_begins, &start) == 0);
	while (!start.begun)
		usleep(100);
	return thread;
}

#endif
