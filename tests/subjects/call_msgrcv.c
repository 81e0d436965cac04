/* Moved inside msgrcv: it gets the message of its type, past others that are there. */
#include "sysv.h"

static int queue;
static struct message got;

static struct answer call(void)
{
	return ANSWER(msgrcv(queue, &got, MOST_TEXT, 7, 0));
}

static void wake(pid_t tid)
{
	struct message sent = { .type = 7, .text = { 0x5a5a } };

	(void)tid;
	EXPECT_OK(msgsnd(queue, &sent, 16, 0));
}

int main(int argc, char **argv)
{
	struct message other = { .type = 3 };

	begin(argc, argv);
	queue = new_queue(IPC_PRIVATE, 0600);
	NEED(msgsnd(queue, &other, 5, 0) == 0);
	block_until_check("msgrcv", call, wake, (struct answer){ 16, 0 });
	EXPECT(got.type == 7 && got.text[0] == 0x5a5a, "type %ld, text %llx", got.type, (unsigned long long)got.text[0]);
	EXPECT_EQ("messages that are left", queue_told(queue).msg_qnum, 1);
	EXPECT_OK(msgctl(queue, IPC_RMID, NULL));
	passed();
}
