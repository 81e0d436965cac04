/* Moved with a thread in each of the waits of which the kernel itself notes what is left. */
#include "wait.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/select.h>

static int ends[2];
static uint32_t word = 7;

static struct answer sleep_plainly(const struct timespec *time)
{
	return ANSWER(syscall(SYS_nanosleep, time, NULL));
}

static struct answer sleep_with_rest(const struct timespec *time)
{
	struct timespec rest = { -1, -1 };

	return ANSWER(syscall(SYS_nanosleep, time, &rest));
}

static struct answer sleep_by_libc(const struct timespec *time)
{
	return ANSWER(nanosleep(time, NULL));
}

static struct answer sleep_by_clock(const struct timespec *time)
{
	return ANSWER(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, time, NULL));
}

static struct answer sleep_by_boot_clock(const struct timespec *time)
{
	return ANSWER(syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, time, NULL));
}

static struct answer poll_pipe(const struct timespec *time)
{
	struct pollfd polled = { .fd = ends[0], .events = POLLIN };
	struct answer answer = ANSWER(poll(&polled, 1, time->tv_sec * 1000 + time->tv_nsec / 1000000));

	EXPECT(polled.fd == ends[0] && polled.events == POLLIN, "poll: its descriptors have changed");
	return answer;
}

static struct answer poll_nothing(const struct timespec *time)
{
	return ANSWER(syscall(SYS_poll, NULL, 0, time->tv_sec * 1000 + time->tv_nsec / 1000000));
}

static struct answer wait_for_word(const struct timespec *time)
{
	return ANSWER(syscall(SYS_futex, &word, FUTEX_WAIT, 7, time, NULL, 0));
}

static struct answer wait_for_private_word(const struct timespec *time)
{
	return ANSWER(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, time, NULL, 0));
}

static struct answer select_pipe(const struct timespec *time)
{
	struct timeval rest = { time->tv_sec, time->tv_nsec / 1000 };
	fd_set readable;

	FD_ZERO(&readable);
	FD_SET(ends[0], &readable);
	return ANSWER(syscall(SYS_select, ends[0] + 1, &readable, NULL, NULL, &rest));
}

static struct answer pselect_pipe(const struct timespec *time)
{
	fd_set readable;

	FD_ZERO(&readable);
	FD_SET(ends[0], &readable);
	return ANSWER(pselect(ends[0] + 1, &readable, NULL, NULL, time, NULL));
}

static struct answer ppoll_pipe(const struct timespec *time)
{
	struct pollfd polled = { .fd = ends[0], .events = POLLIN };

	return ANSWER(ppoll(&polled, 1, time, NULL));
}

static struct wait waits[] = {
	{ .name = "nanosleep", .call = sleep_plainly },
	{ .name = "nanosleep, rest", .call = sleep_with_rest },
	{ .name = "nanosleep, libc", .call = sleep_by_libc },
	{ .name = "clock_nanosleep", .call = sleep_by_clock },
	{ .name = "clock_nanosleep, boot time", .call = sleep_by_boot_clock },
	{ .name = "poll", .call = poll_pipe },
	{ .name = "poll, nothing", .call = poll_nothing },
	{ .name = "futex", .call = wait_for_word, .expected = { -1, ETIMEDOUT } },
	{ .name = "futex, private", .call = wait_for_private_word, .expected = { -1, ETIMEDOUT } },
	{ .name = "select", .call = select_pipe },
	{ .name = "pselect", .call = pselect_pipe },
	{ .name = "ppoll", .call = ppoll_pipe },
};

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(pipe2(ends, O_CLOEXEC) == 0);
	wait_in_threads(waits, sizeof waits / sizeof *waits);
}
