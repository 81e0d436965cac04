/*
 * What is signalled of directories (F_NOTIFY): of which changes, once or each time, more added by another descriptor, asked for by another
 * thread, taken back, used up, with nobody to be told, and of one that has been deleted.
 */
#include "subject.h"

static volatile int told, told_by, told_fd;
static volatile int asks, stop;

static void on_change(int signal, siginfo_t *info, void *context)
{
	(void)context;
	told_by = signal;
	told_fd = signal == SIGIO ? -1 : info->si_fd;
	told++;
}

static int directory(const char *name, int signal)
{
	NEED(mkdir(path_of(name), 0777) == 0);
	int fd = open(path_of(name), O_RDONLY | O_DIRECTORY);
	NEED(fd >= 0 && (!signal || fcntl(fd, F_SETSIG, signal) == 0));
	return fd;
}

static void want(int fd, unsigned long events)
{
	if (fcntl(fd, F_NOTIFY, events) != 0 && errno == EINVAL)
		skipped("this kernel has no F_NOTIFY");
	NEED(fcntl(fd, F_NOTIFY, events) == 0);
}

static void *ask(void *fd)
{
	want(*(int *)fd, DN_CREATE);
	asks = 1;
	while (!stop)
		pause_ms(1);
	return NULL;
}

static void touch(const char *name)
{
	int fd = open(path_of(name), O_CREAT | O_RDWR | O_CLOEXEC, 0666);

	EXPECT(fd >= 0 && close(fd) == 0, "%s: %s", name, strerror(errno));
}

/* A signal is taken before the call that raises it returns: nobody else lets it through. */
static void expect_told(const char *what, int times, int signal, int fd)
{
	EXPECT_EQ(what, told, times);
	if (times) {
		EXPECT_EQ(what, told_by, signal);
		EXPECT_EQ(what, told_fd, fd);
	}
	told = 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_change, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigset_t all;

	begin(argc, argv);
	NEED(sigaction(SIGIO, &action, NULL) == 0);
	for (int signal = SIGRTMIN; signal < SIGRTMIN + 4; signal++)
		NEED(sigaction(signal, &action, NULL) == 0);
	int each = directory("each", SIGRTMIN), once = directory("once", SIGRTMIN + 1), more = directory("more", SIGRTMIN + 2);
	int asked = directory("asked", 0), back = directory("back", SIGRTMIN), used = directory("used", SIGRTMIN + 1);
	int nobody = directory("nobody", SIGRTMIN + 2), deleted = directory("deleted", SIGRTMIN + 3);
	int another = dup(more);
	NEED(another >= 0);
	want(each, DN_CREATE | DN_RENAME | DN_MULTISHOT);
	want(once, DN_DELETE);
	touch("once/x");
	want(more, DN_MODIFY);
	want(another, DN_ATTRIB | DN_MULTISHOT);
	want(back, DN_CREATE | DN_MULTISHOT);
	want(back, 0);
	want(used, DN_CREATE);
	touch("used/x");
	expect_told("used up", 1, SIGRTMIN + 1, used);
	want(nobody, DN_CREATE | DN_MULTISHOT);
	NEED(fcntl(nobody, F_SETOWN, 0) == 0);
	want(deleted, DN_ATTRIB);
	NEED(rmdir(path_of("deleted")) == 0);
	/* The main thread alone takes the signals. */
	NEED(sigfillset(&all) == 0 && pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
	pthread_t thread = start_thread(ask, &asked);
	NEED(pthread_sigmask(SIG_UNBLOCK, &all, NULL) == 0);
	while (!asks)
		pause_ms(1);
	expect_told("while it is set up", 0, 0, 0);
	ready();
	await_check();

	expect_told("by the move", 0, 0, 0);
	touch("each/x");
	expect_told("made", 1, SIGRTMIN, each);
	touch("each/y");
	expect_told("made again", 1, SIGRTMIN, each);
	EXPECT_OK(chmod(path_of("each/x"), 0600));
	EXPECT_OK(unlink(path_of("each/y")));
	expect_told("what was not asked for", 0, 0, 0);
	touch("once/y");
	expect_told("what was not asked for", 0, 0, 0);
	EXPECT_OK(unlink(path_of("once/x")));
	expect_told("deleted", 1, SIGRTMIN + 1, once);
	EXPECT_OK(unlink(path_of("once/y")));
	expect_told("once only", 0, 0, 0);
	touch("more/x");
	expect_told("what was not asked for", 0, 0, 0);
	EXPECT_OK(chmod(path_of("more/x"), 0600));
	expect_told("added", 1, SIGRTMIN + 2, another);
	EXPECT_OK(truncate(path_of("more/x"), 1));
	expect_told("what it was added to", 1, SIGRTMIN + 2, another);
	touch("asked/x");
	/* SIGIO does not tell of what. */
	expect_told("asked for by a thread", 1, SIGIO, -1);
	touch("back/x");
	touch("used/y");
	touch("nobody/x");
	expect_told("by what is not there any more", 0, 0, 0);
	EXPECT_OK(fcntl(nobody, F_SETOWN, getpid()));
	touch("nobody/y");
	expect_told("somebody again", 1, SIGRTMIN + 2, nobody);
	EXPECT_OK(fchmod(deleted, 0700));
	expect_told("of a directory without a name", 1, SIGRTMIN + 3, deleted);
	stop = 1;
	pthread_join(thread, NULL);
	passed();
}
