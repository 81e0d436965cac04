/*
 * Threads that come and go all the time, and change what is their own while
 * they are there: what was known of them before the freeze is often no longer
 * so in it. Each looks again and again whether it is still what it has made of
 * itself.
 */
#include "subject.h"
#include <linux/securebits.h>

#define SLOTS 24

static volatile int stop;

struct own {
	uint64_t chance;
	pid_t tid;
	gid_t group;
	char name[16];
	stack_t stack;
	char room[16384];
	int keep_caps;
};

static void change(struct own *own)
{
	own->group = 1 + any(&own->chance, 60000);
	NEED(syscall(SYS_setresgid, own->group, own->group, own->group) == 0);
	own->keep_caps = any(&own->chance, 2);
	NEED(prctl(PR_SET_SECUREBITS, own->keep_caps ? SECBIT_KEEP_CAPS : 0, 0, 0, 0) == 0);
	snprintf(own->name, sizeof own->name, "t%u", (unsigned int)any(&own->chance, 100000));
	NEED(prctl(PR_SET_NAME, own->name) == 0);
	own->stack = (stack_t){ .ss_sp = own->room + any(&own->chance, 4) * 16, .ss_size = 12000 };
	NEED(sigaltstack(&own->stack, NULL) == 0);
}

static void look(const struct own *own)
{
	char name[16];
	stack_t stack;

	EXPECT_EQ("thread's ID", syscall(SYS_gettid), own->tid);
	EXPECT_EQ("thread's group", syscall(SYS_getgid), own->group);
	EXPECT_EQ("securebits", prctl(PR_GET_SECUREBITS), own->keep_caps ? SECBIT_KEEP_CAPS : 0);
	EXPECT_OK(prctl(PR_GET_NAME, name));
	EXPECT(strcmp(name, own->name) == 0, "thread's name: expected %s, got %s", own->name, name);
	EXPECT_OK(sigaltstack(NULL, &stack));
	EXPECT(stack.ss_sp == own->stack.ss_sp && stack.ss_size == own->stack.ss_size,
	       "alternate stack: expected %p, got %p", own->stack.ss_sp, stack.ss_sp);
}

static void *body(void *seed)
{
	struct own own = { .chance = pattern((uintptr_t)seed, 0) | 1 };
	stack_t none = { .ss_flags = SS_DISABLE };

	own.tid = (pid_t)syscall(SYS_gettid);
	/* Some live long and change nothing any more. */
	int lives = any(&own.chance, 3) ? 1 + any(&own.chance, 20) : 1 << 30, restless = any(&own.chance, 2);

	change(&own);
	while (lives-- > 0 && !stop) {
		if (restless && any(&own.chance, 4) == 0)
			change(&own);
		pause_ms(any(&own.chance, 3));
		look(&own);
	}
	sigaltstack(&none, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[SLOTS];
	unsigned int made = 0;

	begin(argc, argv);
	if (geteuid() != 0)
		skipped("to become another group takes root");
	for (int i = 0; i < SLOTS; i++)
		threads[i] = start_thread(body, (void *)(uintptr_t)++made);
	ready();
	/* Each that has ended is followed by another. */
	for (int settled = 0; !settled;) {
		settled = check_wanted();
		for (int i = 0; i < SLOTS; i++)
			if (pthread_tryjoin_np(threads[i], NULL) == 0)
				threads[i] = start_thread(body, (void *)(uintptr_t)++made);
		pause_ms(1);
	}
	pause_ms(50);
	stop = 1;
	for (int i = 0; i < SLOTS; i++)
		pthread_join(threads[i], NULL);
	passed();
}
