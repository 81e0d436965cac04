/* Another process has sent the message that is in its queue: refused by name, and it takes the message here. */
#include "sysv.h"

static int queue;

static void send_one(void)
{
	struct message sent = { .type = 5 };

	NEED(msgsnd(queue, &sent, 9, 0) == 0);
}

int main(int argc, char **argv)
{
	struct message got;

	begin(argc, argv);
	queue = new_queue(IPC_PRIVATE, 0600);
	send_one();
	NEED(msgrcv(queue, &got, MOST_TEXT, 0, 0) == 9);
	have_one_left_behind(send_one, 0);
	ready();
	await_check();
	ssize_t length = msgrcv(queue, &got, MOST_TEXT, 5, IPC_NOWAIT);
	int why = errno;
	EXPECT_OK(msgctl(queue, IPC_RMID, NULL));
	EXPECT(length == 9, "msgrcv: %zd, %s", length, strerror(why));
	passed();
}
