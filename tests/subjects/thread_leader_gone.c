/* A process whose first thread has ended: the others go on. */
#include "subject.h"

static pthread_t first;

static void *second(void *unused)
{
	char text[4096] = "";

	(void)unused;
	for (;;) {
		read_whole("/proc/self/status", text, sizeof text - 1);
		if (strstr(text, "State:\tZ"))
			break;
		pause_ms(1);
	}
	ready();
	await_check();
	memset(text, 0, sizeof text);
	read_whole("/proc/self/status", text, sizeof text - 1);
	EXPECT(strstr(text, "State:\tZ") != NULL, "the first thread is alive again");
	EXPECT(getpid() != syscall(SYS_gettid), "the second thread became the first");
	EXPECT_EQ("pthread_join of the first thread", pthread_join(first, NULL), 0);
	passed();
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	first = pthread_self();
	start_thread(second, NULL);
	pthread_exit(NULL);
}
