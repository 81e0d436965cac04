/* Moved inside a futex wait in shared memory, woken through another mapping of it. */
#include "call.h"
#include <linux/futex.h>

static uint32_t *one, *two;

static struct answer call(void)
{
	return ANSWER(syscall(SYS_futex, one, FUTEX_WAIT, 0, NULL, NULL, 0));
}

static void wake(pid_t tid)
{
	(void)tid;
	*two = 8;
	EXPECT_EQ("threads woken", syscall(SYS_futex, two, FUTEX_WAKE, 10, NULL, NULL, 0), 1);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	one = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(one != MAP_FAILED);
	two = mremap(one, 0, PAGE, MREMAP_MAYMOVE);
	NEED(two != MAP_FAILED);
	block_until_check("futex_shared", call, wake, (struct answer){ 0, 0 });
	passed();
}
