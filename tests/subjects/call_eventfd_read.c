/* Moved inside a read of an eventfd that is zero. */
#include "call.h"
#include <sys/eventfd.h>

static int event;
static uint64_t got;

static struct answer call(void)
{
	return ANSWER(read(event, &got, sizeof got));
}

static void add(pid_t tid)
{
	uint64_t five = 5;

	(void)tid;
	EXPECT_EQ("length written", write(event, &five, sizeof five), 8);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	event = eventfd(0, EFD_CLOEXEC);
	NEED(event >= 0);
	block_until_check("eventfd_read", call, add, (struct answer){ 8, 0 });
	EXPECT_EQ("the count", got, 5);
	passed();
}
