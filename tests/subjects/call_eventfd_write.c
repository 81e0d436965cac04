/* Moved inside a write to an eventfd whose counter has no room for it. */
#include "call.h"
#include <sys/eventfd.h>

#define FULL 0xfffffffffffffffeULL
static int event_fd;

static struct answer call(void)
{
	uint64_t more = 5;

	return ANSWER(write(event_fd, &more, 8));
}

static void make_room(pid_t tid)
{
	uint64_t counter;

	(void)tid;
	EXPECT_EQ("read", read(event_fd, &counter, 8), 8);
	EXPECT(counter == FULL, "the counter was %llx", (unsigned long long)counter);
}

int main(int argc, char **argv)
{
	uint64_t counter = FULL;

	begin(argc, argv);
	event_fd = eventfd(0, EFD_CLOEXEC);
	NEED(event_fd >= 0 && write(event_fd, &counter, 8) == 8);
	block_until_check("eventfd write", call, make_room, (struct answer){ 8, 0 });
	EXPECT_EQ("read", read(event_fd, &counter, 8), 8);
	EXPECT_EQ("the counter", counter, 5);
	passed();
}
