/* Blocked signals that wait: for the process and for one thread, standard and real-time, each with what it carries, in order. */
#include "subject.h"

/* The system call itself: libc's sigtimedwait passes SI_TKILL off as SI_USER. */
static siginfo_t take(int signal)
{
	sigset_t set;
	siginfo_t info;
	struct timespec none = { 0, 0 };

	memset(&info, 0, sizeof info);
	sigemptyset(&set);
	sigaddset(&set, signal);
	int got = (int)syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8);
	EXPECT(got == signal, "signal %d is not pending: %s", signal, strerror(errno));
	return info;
}

static void expect_none(const char *whose)
{
	sigset_t set;
	siginfo_t info;
	struct timespec none = { 0, 0 };

	sigfillset(&set);
	int got = (int)syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8);
	EXPECT(got == -1 && errno == EAGAIN, "%s: signal %d came that nobody sent, or twice", whose, got);
}

static volatile int queued, main_took;

static void *thread(void *unused)
{
	siginfo_t info;

	(void)unused;
	NEED(pthread_kill(pthread_self(), SIGHUP) == 0);
	info = (siginfo_t){ .si_signo = SIGRTMAX, .si_code = SI_QUEUE, .si_value.sival_int = 71 };
	NEED(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGRTMAX, &info) == 0);
	queued = 1;
	while (!main_took)
		pause_ms(1);
	info = take(SIGHUP);
	EXPECT_EQ("si_code of the thread's own SIGHUP", info.si_code, SI_TKILL);
	EXPECT_EQ("si_pid of the thread's own SIGHUP", info.si_pid, getpid());
	info = take(SIGRTMAX);
	EXPECT_EQ("value of the thread's own signal", info.si_value.sival_int, 71);
	expect_none("thread");
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t all;
	siginfo_t info;

	begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pthread_t other = start_thread(thread, NULL);
	while (!queued)
		pause_ms(1);
	NEED(kill(getpid(), SIGUSR1) == 0);
	NEED(kill(getpid(), SIGUSR1) == 0); /* of a standard signal only one is kept */
	for (int i = 0; i < 5; i++)
		NEED(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_ptr = (void *)(0x1111222233334444UL + i) }) == 0);
	NEED(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 9 }) == 0);
	ready();
	await_check();

	info = take(SIGUSR1);
	EXPECT_EQ("si_code of SIGUSR1", info.si_code, SI_USER);
	EXPECT_EQ("si_pid of SIGUSR1", info.si_pid, getpid());
	EXPECT_EQ("si_uid of SIGUSR1", info.si_uid, getuid());
	for (int i = 0; i < 5; i++) {
		info = take(SIGRTMIN + 3);
		EXPECT_EQ("value of a real-time signal", info.si_value.sival_ptr, 0x1111222233334444UL + i);
		EXPECT_EQ("si_code of a real-time signal", info.si_code, SI_QUEUE);
		EXPECT_EQ("si_pid of a real-time signal", info.si_pid, getpid());
	}
	EXPECT_EQ("value of the other real-time signal", take(SIGRTMIN + 1).si_value.sival_int, 9);
	expect_none("process");
	main_took = 1;
	pthread_join(other, NULL);
	passed();
}
