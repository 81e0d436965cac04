/* Moved inside a poll for the end of a thread. */
#include "call.h"
#include <poll.h>

static struct pollfd asked = { .events = POLLIN };
static volatile pid_t tid;
static volatile int may_end;

static void *thread(void *unused)
{
	(void)unused;
	tid = (pid_t)syscall(SYS_gettid);
	while (!may_end)
		pause_ms(1);
	return NULL;
}

static struct answer call(void)
{
	return ANSWER(poll(&asked, 1, -1));
}

static void end(pid_t unused)
{
	(void)unused;
	may_end = 1;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	start_thread(thread, NULL);
	while (tid == 0)
		pause_ms(1);
	asked.fd = (int)syscall(SYS_pidfd_open, tid, O_EXCL);
	if (asked.fd < 0 && errno == EINVAL)
		skipped("this kernel has no PIDFD_THREAD");
	NEED(asked.fd >= 0);
	block_until_check("poll of a pidfd", call, end, (struct answer){ 1, 0 });
	EXPECT(asked.revents & POLLIN, "poll gave %x", asked.revents);
	passed();
}
