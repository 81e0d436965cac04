/* Moved inside msgsnd, for which there is no room: the message is in the queue once, behind the others. */
#include "sysv.h"

static int queue, before;

static struct answer call(void)
{
	struct message last = { .type = 7 };

	return ANSWER(msgsnd(queue, &last, 16, 0));
}

static void wake(pid_t tid)
{
	struct message got;

	(void)tid;
	EXPECT_EQ("messages in it", queue_told(queue).msg_qnum, before);
	EXPECT_EQ("the first one", msgrcv(queue, &got, MOST_TEXT, 0, IPC_NOWAIT), 1000);
}

int main(int argc, char **argv)
{
	struct message some = { .type = 3 };

	begin(argc, argv);
	queue = new_queue(IPC_PRIVATE, 0600);
	while (msgsnd(queue, &some, before ? 100 : 1000, IPC_NOWAIT) == 0)
		before++;
	NEED(errno == EAGAIN);
	/* Until not even that is left. */
	while (msgsnd(queue, &some, 1, IPC_NOWAIT) == 0)
		before++;
	block_until_check("msgsnd", call, wake, (struct answer){ 0, 0 });
	EXPECT_EQ("messages in it", queue_told(queue).msg_qnum, before);
	EXPECT_EQ("the one that waited", msgrcv(queue, &some, MOST_TEXT, 7, IPC_NOWAIT), 16);
	EXPECT_OK(msgctl(queue, IPC_RMID, NULL));
	passed();
}
