/*
 * A program that handles every signal, and of which one thread sends SIGURG to another all the time: the next one when
 * the last was taken, and never again if it was not. So does the runtime of Go to stop a goroutine.
 */
#include "subject.h"

static volatile unsigned long taken;
static volatile int stop;

static void handler(int signal)
{
	if (signal == SIGURG)
		taken++;
}

static void *sender(void *unused)
{
	pid_t process = getpid();

	(void)unused;
	for (unsigned long sent = 1; !stop; sent++) {
		EXPECT_OK(syscall(SYS_tgkill, process, process, SIGURG));
		for (int waited = 0; taken != sent; waited++) {
			EXPECT(waited < 200000, "SIGURG number %lu was not taken", sent);
			usleep(50);
		}
		usleep(50);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	begin(argc, argv);
	for (int signal = 1; signal <= SIGRTMAX; signal++)
		sigaction(signal, &action, NULL);
	pthread_t thread = start_thread(sender, NULL);
	ready();
	await_check();
	/* The sender says it should none be taken. */
	for (unsigned long before = taken; taken == before;)
		pause_ms(1);
	stop = 1;
	pthread_join(thread, NULL);
	passed();
}
