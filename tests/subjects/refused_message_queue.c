/* Has sent a message to a System V queue: refused by name, and it takes the message from there here. */
#include "subject.h"
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
	long type;
	char text[8];
};

int main(int argc, char **argv)
{
	struct message sent = { 1, "message" }, got = { 0, "" };

	begin(argc, argv);
	int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	if (queue < 0 && errno == ENOSYS)
		skipped("the kernel has no System V message queues");
	NEED(queue >= 0 && msgsnd(queue, &sent, sizeof sent.text, 0) == 0);
	ready();
	await_check();
	ssize_t length = msgrcv(queue, &got, sizeof got.text, 0, IPC_NOWAIT);
	int why = errno;
	EXPECT_OK(msgctl(queue, IPC_RMID, NULL));
	EXPECT(length == sizeof sent.text, "msgrcv: %zd, %s", length, strerror(why));
	EXPECT(strcmp(got.text, sent.text) == 0, "the message: %s", got.text);
	passed();
}
