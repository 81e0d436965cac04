/*
 * Waits with a time-out that the process is in while it moves, once or more often. Each must end when it would have ended: one that
 * begins anew is late by at least WAIT_BEFORE_MS. On a busy machine a thread may be woken late, so only much less than that is checked
 * here; how late each was stands in the file `late`, a line each.
 */
#ifndef WAIT_H
#define WAIT_H
#include "call.h"

#define WAIT_MS 4000
#define WAIT_BEFORE_MS 1500
#define WAIT_LATE_US 500000

struct wait {
	const char *name;
	/* Waits for so long. Returns what is expected. */
	struct answer (*call)(const struct timespec *time);
	struct answer expected;
	struct answer got;
	long late_us;
	volatile int done;
};

static UNUSED struct timespec wait_time(void)
{
	return (struct timespec){ WAIT_MS / 1000, WAIT_MS % 1000 * 1000000L };
}

static UNUSED void *wait_once(void *argument)
{
	struct wait *wait = argument;
	const struct timespec time = wait_time();
	int64_t began = now_us(CLOCK_MONOTONIC);

	wait->got = wait->call(&time);
	wait->late_us = now_us(CLOCK_MONOTONIC) - began - WAIT_MS * 1000L;
	wait->done = 1;
	return NULL;
}

static UNUSED void expect_in_time(const struct wait *waits, int count)
{
	char text[2048] = "";
	int length = 0;

	for (int i = 0; i < count; i++)
		length += snprintf(text + length, sizeof text - length, "%s %ld\n", waits[i].name, waits[i].late_us);
	write_whole("late", text);
	for (int i = 0; i < count; i++) {
		const struct wait *wait = &waits[i];

		EXPECT(wait->got.value == wait->expected.value && wait->got.error == wait->expected.error,
		       "%s: expected %ld (%s), got %ld (%s), %ld us after its end", wait->name, wait->expected.value,
		       strerror(wait->expected.error), wait->got.value, strerror(wait->got.error), wait->late_us);
		EXPECT(wait->late_us >= -2000, "%s ended %ld us too early", wait->name, -wait->late_us);
		EXPECT(wait->late_us < WAIT_LATE_US, "%s ended %ld us too late: %s", wait->name, wait->late_us, text);
	}
	passed();
}

/* It stays for as long as the others: no thread ends between two looks. */
static UNUSED void *wait_and_stay(void *wait)
{
	wait_once(wait);
	for (;;)
		pause();
	return NULL;
}

/* A thread in each of them, moved when they have waited for a while. */
static UNUSED void wait_in_threads(struct wait *waits, int count)
{
	for (int i = 0; i < count; i++)
		start_thread(wait_and_stay, &waits[i]);
	pause_ms(WAIT_BEFORE_MS);
	ready();
	await_check();
	for (int i = 0; i < count; i++)
		while (!waits[i].done)
			pause_ms(1);
	expect_in_time(waits, count);
}

/* A process with one thread, that waits from now on. It cannot say itself when it has waited for a while. */
static UNUSED void wait_alone(const char *name, struct answer (*call)(const struct timespec *), struct answer expected)
{
	struct wait wait = { .name = name, .call = call, .expected = expected };
	char text[32];
	pid_t child = fork();

	NEED(child >= 0);
	if (child == 0) {
		NEED(setsid() > 0);
		wait_once(&wait);
		await_check();
		expect_in_time(&wait, 1);
	}
	pause_ms(WAIT_BEFORE_MS);
	snprintf(text, sizeof text, "%d\n", (int)child);
	write_whole("ready", text);
	_exit(0);
}

#endif
