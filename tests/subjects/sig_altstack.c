/* Alternate signal stacks of two threads; handlers run on them; a move while one runs on it leaves it in use. */
#include "subject.h"

#define SIZE (64UL << 10)

static __thread char *own;
static volatile int ran, off_stack, inside, on_stack_flag;

static void handler(int signal)
{
	char here;
	stack_t now;

	ran++;
	if (&here < own || &here >= own + SIZE)
		off_stack++;
	if (signal == SIGUSR2) {
		inside = 1;
		await_check();
		on_stack_flag = sigaltstack(NULL, &now) == 0 && now.ss_flags == SS_ONSTACK && now.ss_sp == own;
	}
}

static void set_stack(int flags)
{
	own = map_anonymous(SIZE);
	stack_t stack = { .ss_sp = own, .ss_size = SIZE, .ss_flags = flags };
	NEED(sigaltstack(&stack, NULL) == 0);
}

static void expect_stack(const char *whose, int flags)
{
	stack_t now;

	EXPECT_OK(sigaltstack(NULL, &now));
	EXPECT_EQ(whose, now.ss_sp, own);
	EXPECT_EQ(whose, now.ss_size, SIZE);
	EXPECT_EQ(whose, now.ss_flags, flags);
}

static void *thread(void *unused)
{
	(void)unused;
	set_stack(0);
	raise(SIGUSR2); /* moved in there */
	EXPECT(on_stack_flag, "inside the handler the alternate stack was not said to be in use");
	expect_stack("the thread's alternate stack", 0);
	return NULL;
}

static void *without(void *unused)
{
	stack_t now;

	(void)unused;
	await_check();
	EXPECT_OK(sigaltstack(NULL, &now));
	EXPECT_EQ("flags of a thread without an alternate stack", now.ss_flags, SS_DISABLE);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };

	begin(argc, argv);
	NEED(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
	set_stack(1U << 31 /* SS_AUTODISARM */);
	pthread_t other = start_thread(thread, NULL), none = start_thread(without, NULL);
	while (!inside)
		pause_ms(1);
	ready();
	await_check();
	expect_stack("the main thread's alternate stack", 1U << 31);
	pthread_join(other, NULL);
	pthread_join(none, NULL);
	raise(SIGUSR1);
	EXPECT_EQ("times that handlers ran", ran, 2);
	EXPECT_EQ("handlers that ran off their stack", off_stack, 0);
	passed();
}
