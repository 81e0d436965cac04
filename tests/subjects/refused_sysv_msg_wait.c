/* Another process waits for a message from the queue in which it waits itself: refused by name, and both get theirs here. */
#include "sysv.h"

static int queue;

static void wait_for_one(void)
{
	struct message got;

	if (msgrcv(queue, &got, MOST_TEXT, 8, 0) == 3) {
		got.type = 7;
		msgsnd(queue, &got, 4, 0);
	}
}

static struct answer call(void)
{
	struct message got;

	return ANSWER(msgrcv(queue, &got, MOST_TEXT, 7, 0));
}

static void wake(pid_t tid)
{
	struct message sent = { .type = 8 };

	(void)tid;
	EXPECT_OK(msgsnd(queue, &sent, 3, 0));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	queue = new_queue(IPC_PRIVATE, 0600);
	have_one_left_behind(wait_for_one, 1);
	block_until_check("msgrcv", call, wake, (struct answer){ 4, 0 });
	EXPECT_OK(msgctl(queue, IPC_RMID, NULL));
	passed();
}
