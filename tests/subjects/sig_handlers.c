/* What each of the 64 signals does: handler, flags, restorer and mask as the kernel has them; and the handlers run. */
#include "subject.h"

struct kernel_sigaction { uint64_t handler, flags, restorer, mask; };

static volatile int runs[65];
static uint64_t mask_inside[65];
static volatile int value;

static void note(int signal)
{
	runs[signal]++;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask_inside[signal], 8);
}

static void note_info(int signal, siginfo_t *info, void *context)
{
	(void)context;
	note(signal);
	value = info->si_value.sival_int;
}

static int action_of(int signal, struct kernel_sigaction *action)
{
	memset(action, 0, sizeof *action);
	return syscall(SYS_rt_sigaction, signal, NULL, action, 8) == 0;
}

static void expect_same(const char *what, int signal, uint64_t after, uint64_t before)
{
	EXPECT(after == before, "%s of signal %d: expected 0x%llx, got 0x%llx", what, signal, (unsigned long long)before,
	       (unsigned long long)after);
}

int main(int argc, char **argv)
{
	static struct kernel_sigaction before[65], after;
	static const int flags[] = { SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_NOCLDSTOP, SA_NOCLDWAIT, SA_ONSTACK };

	begin(argc, argv);
	for (int signal = 1; signal <= 64; signal++) {
		struct sigaction action = { .sa_flags = flags[signal % 6] };

		if (signal == SIGKILL || signal == SIGSTOP || signal == 32 || signal == 33)
			continue;
		if (signal % 5 == 0)
			action.sa_handler = SIG_IGN;
		else if (signal % 5 == 1)
			action.sa_handler = SIG_DFL;
		else if (signal % 5 == 2)
			action.sa_sigaction = note_info, action.sa_flags |= SA_SIGINFO;
		else
			action.sa_handler = note;
		sigaddset(&action.sa_mask, (signal * 7) % 64 + 1);
		sigaddset(&action.sa_mask, SIGHUP);
		NEED(sigaction(signal, &action, NULL) == 0);
	}
	for (int signal = 1; signal <= 64; signal++)
		NEED(action_of(signal, &before[signal]));
	ready();
	await_check();

	for (int signal = 1; signal <= 64; signal++) {
		EXPECT(action_of(signal, &after), "sigaction of %d: %s", signal, strerror(errno));
		expect_same("handler", signal, after.handler, before[signal].handler);
		expect_same("flags", signal, after.flags, before[signal].flags);
		expect_same("restorer", signal, after.restorer, before[signal].restorer);
		expect_same("mask", signal, after.mask, before[signal].mask);
	}
	for (int signal = 1; signal <= 64; signal++) {
		union sigval sent = { .sival_int = 1000 + signal };
		uint64_t mask;

		if (before[signal].handler != (uintptr_t)note && before[signal].handler != (uintptr_t)note_info)
			continue;
		EXPECT_OK(sigqueue(getpid(), signal, sent));
		EXPECT_EQ("times that a handler ran", runs[signal], 1);
		if (before[signal].flags & SA_SIGINFO)
			EXPECT_EQ("value that a handler got", value, 1000 + signal);
		mask = before[signal].mask | (before[signal].flags & SA_NODEFER ? 0 : 1ULL << (signal - 1));
		EXPECT_EQ("mask inside a handler", mask_inside[signal], mask & ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1)));
		EXPECT(action_of(signal, &after), "sigaction: %s", strerror(errno));
		EXPECT_EQ("handler once it ran", after.handler, before[signal].flags & SA_RESETHAND ? 0 : before[signal].handler);
	}
	passed();
}
