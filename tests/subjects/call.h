/*
 * A system call that the process is inside of while it moves. It must go on
 * as if nothing had happened: no EINTR, no early return.
 *
 * With a timeout: the call is made again and again until `check` comes, so
 * that every move, however many, falls into one. Without: a thread stays in
 * the call until the main thread, after `check`, makes it return.
 */
#ifndef CALL_H
#define CALL_H
#include "subject.h"

#define CALL_MS 400
#define CALL_NS (CALL_MS * 1000000L)

/* The point in time at which a call that begins now is to be over. */
static UNUSED struct timespec call_end(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	time.tv_nsec += CALL_NS;
	time.tv_sec += time.tv_nsec / 1000000000;
	time.tv_nsec %= 1000000000;
	return time;
}

/* One call: what it returned, and errno. */
struct answer { long value; int error; };
#define ANSWER(call) ({ errno = 0; long value_ = (call); (struct answer){ value_, errno }; })

/* `clock`: the one that the call goes by. */
static UNUSED void repeat_by_clock(clockid_t clock, const char *name, struct answer (*call)(void), struct answer expected)
{
	ready();
	while (!check_wanted()) {
		int64_t started = now_us(clock);
		struct answer got = call();
		int64_t took = now_us(clock) - started;

		EXPECT(got.value == expected.value && got.error == expected.error,
		       "%s: expected %ld (%s), got %ld (%s) after %lld us", name, expected.value, strerror(expected.error),
		       got.value, strerror(got.error), (long long)took);
		EXPECT(took >= CALL_MS * 1000 - 1000, "%s: returned after %lld us instead of %d ms", name, (long long)took,
		       CALL_MS);
	}
	passed();
}

static struct answer (*blocking_call_)(void);
static struct answer blocking_answer_;
static volatile pid_t blocking_tid_;
static volatile int blocking_done_;

static void *blocking_thread_(void *unused)
{
	(void)unused;
	blocking_tid_ = (pid_t)syscall(SYS_gettid);
	blocking_answer_ = blocking_call_();
	blocking_done_ = 1;
	return NULL;
}

static UNUSED void repeat_until_check(const char *name, struct answer (*call)(void), struct answer expected)
{
	repeat_by_clock(CLOCK_MONOTONIC, name, call, expected);
}

/* `wake` is given the thread's ID. */
static UNUSED void block_until_check(const char *name, struct answer (*call)(void), void (*wake)(pid_t),
				     struct answer expected)
{
	blocking_call_ = call;
	pthread_t thread = start_thread(blocking_thread_, NULL);
	pause_ms(50);
	ready();
	await_check();
	pause_ms(50);
	EXPECT(!blocking_done_, "%s: returned %ld (%s) before anything happened", name, blocking_answer_.value,
	       strerror(blocking_answer_.error));
	wake(blocking_tid_);
	/* Woken, it returns soon: a wake-up that was lost fails here, not in a timeout of the harness. */
	for (int i = 0; i < 5000 && !blocking_done_; i++)
		pause_ms(1);
	EXPECT(blocking_done_, "%s: does not return", name);
	pthread_join(thread, NULL);
	EXPECT(blocking_answer_.value == expected.value && blocking_answer_.error == expected.error,
	       "%s: expected %ld (%s), got %ld (%s)", name, expected.value, strerror(expected.error),
	       blocking_answer_.value, strerror(blocking_answer_.error));
}

static volatile int handled_ UNUSED;

static UNUSED void count_signal(int signal)
{
	(void)signal;
	handled_++;
}

static UNUSED void send_to_thread(pid_t tid)
{
	EXPECT_OK(syscall(SYS_tgkill, getpid(), tid, SIGUSR1));
}

static UNUSED void handle_usr1(void)
{
	struct sigaction action = { .sa_handler = count_signal };

	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
}

static UNUSED sigset_t only(int signal)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	return set;
}

#endif
