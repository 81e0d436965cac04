/* A thread with a working directory of its own (unshare): refused, and it keeps it. */
#include "subject.h"

static volatile int changed;

static void *apart(void *unused)
{
	char path[PATH_MAX];

	(void)unused;
	NEED(unshare(CLONE_FS) == 0);
	NEED(chdir("/proc") == 0);
	changed = 1;
	await_check();
	EXPECT(getcwd(path, sizeof path) && strcmp(path, "/proc") == 0, "its directory is %s", path);
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_t thread = start_thread(apart, NULL);
	while (!changed)
		pause_ms(1);
	ready();
	await_check();
	pthread_join(thread, NULL);
	passed();
}
