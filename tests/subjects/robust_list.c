/* Robust futexes: each thread's list is registered as before, and a lock whose owner ends after the move is handed on. */
#include "subject.h"
#include <linux/futex.h>

static pthread_mutex_t mutex;
static void *head_before[2];

static void *head(void)
{
	void *at = NULL;
	size_t length = 0;

	EXPECT_OK(syscall(SYS_get_robust_list, 0, &at, &length));
	EXPECT_EQ("length of the robust list's head", length, sizeof(struct robust_list_head));
	return at;
}

static volatile int locked;

static void *owner(void *unused)
{
	(void)unused;
	head_before[1] = head();
	pthread_mutex_lock(&mutex);
	locked = 1;
	await_check();
	EXPECT(head() == head_before[1], "the thread's list: expected %p, got %p", head_before[1], head());
	return NULL; /* still holding the lock */
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attributes;

	begin(argc, argv);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&mutex, &attributes);
	head_before[0] = head();
	NEED(head_before[0] != NULL);
	pthread_t thread = start_thread(owner, NULL);
	while (!locked)
		pause_ms(1);
	ready();
	/* Waits for the lock all the while. */
	EXPECT_EQ("pthread_mutex_lock after its owner ended", pthread_mutex_lock(&mutex), EOWNERDEAD);
	EXPECT(check_wanted(), "the lock was given away too early");
	EXPECT_EQ("pthread_mutex_consistent", pthread_mutex_consistent(&mutex), 0);
	EXPECT(head() == head_before[0], "the main thread's list: expected %p, got %p", head_before[0], head());
	pthread_join(thread, NULL);
	passed();
}
