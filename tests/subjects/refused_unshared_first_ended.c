/* The same as refused_unshared where the first thread has ended, with so many threads that a probe tells of them. */
#include "first_ended.h"

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
	expect_first_ended();
	passed();
}

static void *other(void *unused)
{
	await_check();
	pause_ms(10000);
	return unused;
}

static void *last(void *unused)
{
	await_end_of_first();
	while (!changed)
		pause_ms(1);
	ready();
	return other(unused);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	for (int i = 0; i < 30; i++)
		start_thread(other, NULL);
	start_thread(apart, NULL);
	start_thread(last, NULL);
	be_the_first();
	pthread_exit(NULL);
}
