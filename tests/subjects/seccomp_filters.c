/* Filters one upon the other, of all threads (TSYNC), one of them logged: the newest answers first, and later ones can be added. */
#include "seccomp.h"

#define THREADS 20

static volatile int changed;

static void expect_filters(const char *who, int newest)
{
	expect_error(who, SYS_getppid, newest);
	expect_error(who, SYS_getpgrp, 7);
	expect_error(who, SYS_getuid, 0);
}

static void *thread(void *unused)
{
	(void)unused;
	__atomic_add_fetch(&changed, 1, __ATOMIC_SEQ_CST);
	await_check();
	expect_filters("thread", 6);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	begin(argc, argv);
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	for (int i = 0; i < THREADS; i++)
		threads[i] = start_thread(thread, NULL);
	while (changed < THREADS)
		pause_ms(1);
	forbid(SYS_getppid, 5, SECCOMP_FILTER_FLAG_TSYNC);
	forbid(SYS_getpgrp, 7, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
	forbid(SYS_getppid, 6, SECCOMP_FILTER_FLAG_TSYNC);
	ready();
	await_check();
	EXPECT_EQ("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	expect_filters("first thread", 6);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	forbid(SYS_getppid, 8, 0);
	expect_error("with one more", SYS_getppid, 8);
	passed();
}
