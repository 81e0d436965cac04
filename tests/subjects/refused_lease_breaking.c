/* A lease that another thread, which waits for that, is just breaking. */
#include "lease.h"

static volatile int opened;

static void *break_it(void *unused)
{
	sigset_t signal;

	(void)unused;
	sigemptyset(&signal);
	sigaddset(&signal, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &signal, NULL);
	opened = open(path_of("leased"), O_WRONLY) >= 0 ? 1 : -1;
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	close(make_file("leased", 1, 1));
	int fd = open(path_of("leased"), O_RDONLY);
	NEED(fd >= 0);
	take_lease(fd, F_RDLCK);
	pthread_t thread = start_thread(break_it, NULL);
	while (lease_signals == 0)
		pause_ms(1);
	ready();
	await_check();
	EXPECT_EQ("opened too early", opened, 0);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	pthread_join(thread, NULL);
	EXPECT_EQ("opened", opened, 1);
	passed();
}
