/* Filters of single threads: one has none, one has one, one has two. */
#include "seccomp.h"

static volatile int changed;

static void *thread(void *argument)
{
	long filters = (long)argument;

	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	for (int i = 1; i <= filters; i++)
		forbid(i == 1 ? SYS_getppid : SYS_getpgrp, 40 + i, 0);
	__atomic_add_fetch(&changed, 1, __ATOMIC_SEQ_CST);
	await_check();
	char who[48];
	snprintf(who, sizeof who, "thread with %ld", filters);
	expect_error(who, SYS_getppid, filters >= 1 ? 41 : 0);
	expect_error(who, SYS_getpgrp, filters >= 2 ? 42 : 0);
	EXPECT_EQ("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[3];

	begin(argc, argv);
	for (long i = 0; i < 3; i++)
		threads[i] = start_thread(thread, (void *)i);
	while (changed < 3)
		pause_ms(1);
	ready();
	await_check();
	expect_error("first thread", SYS_getppid, 0);
	EXPECT_EQ("no_new_privs of the first", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	passed();
}
