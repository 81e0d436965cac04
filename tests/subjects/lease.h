/* Leases (F_SETLEASE) that somebody is about to break. */
#ifndef LEASE_H
#define LEASE_H
#include "subject.h"

static volatile int lease_signals, lease_fd = -1;

static void on_lease_break(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	lease_fd = info->si_fd;
	lease_signals++;
}

/* Takes a lease; SIGRTMIN tells that it is to be given up. */
static UNUSED void take_lease(int fd, int type)
{
	struct sigaction action = { .sa_sigaction = on_lease_break, .sa_flags = SA_SIGINFO };

	NEED(sigaction(SIGRTMIN, &action, NULL) == 0);
	NEED(fcntl(fd, F_SETSIG, SIGRTMIN) == 0 && fcntl(fd, F_SETLEASE, type) == 0);
	NEED(fcntl(fd, F_GETLEASE) == type);
}

/* It is still there; opening the file with `flags` breaks it, down to `left`. */
static UNUSED void expect_lease(const char *name, int fd, int type, int flags, int left)
{
	EXPECT_EQ("signals before anybody opened it", lease_signals, 0);
	EXPECT_EQ("the lease", fcntl(fd, F_GETLEASE), type);
	int other = open(path_of(name), flags | O_NONBLOCK);
	EXPECT(other == -1 && errno == EWOULDBLOCK, "opened in spite of the lease: %d, %s", other, strerror(errno));
	for (int i = 0; i < 5000 && lease_signals == 0; i++)
		pause_ms(1);
	EXPECT_EQ("signals", lease_signals, 1);
	EXPECT_EQ("the descriptor in the signal", lease_fd, fd);
	EXPECT_EQ("what is to be left of it", fcntl(fd, F_GETLEASE), left);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	other = open(path_of(name), flags | O_NONBLOCK);
	EXPECT(other >= 0, "open after the lease was given up: %s", strerror(errno));
}

#endif
