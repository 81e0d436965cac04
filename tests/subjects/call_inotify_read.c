/* Moved inside a read of an inotify. */
#include "call.h"
#include <sys/inotify.h>

static int notify;
static union { struct inotify_event event; char room[512]; } got;

static struct answer call(void)
{
	return ANSWER(read(notify, &got, sizeof got));
}

static void make(pid_t tid)
{
	(void)tid;
	EXPECT_OK(mkdir(path_of("directory/x"), 0777));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	notify = inotify_init1(IN_CLOEXEC);
	NEED(notify >= 0 && mkdir(path_of("directory"), 0777) == 0);
	NEED(inotify_add_watch(notify, path_of("directory"), IN_CREATE) == 1);
	block_until_check("inotify_read", call, make, (struct answer){ sizeof got.event + 16, 0 });
	EXPECT(got.event.wd == 1 && strcmp(got.event.name, "x") == 0, "watch %d, %s", got.event.wd, got.event.name);
	passed();
}
