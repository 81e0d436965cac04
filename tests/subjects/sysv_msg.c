/*
 * System V message queues: messages in their order with types and content, ID, key, creator, owner, permissions, limit, and who used them.
 * One thread sends to another by one queue while it is moved.
 */
#include "sysv.h"

#define KEPT 40

static int stream;
static volatile int ends;
static volatile uint64_t taken;
static const uint64_t seed = 77;

static size_t length_of(uint64_t number)
{
	uint64_t chance = pattern(seed, number) | 1;

	return any(&chance, MOST_TEXT + 1);
}

static void make(struct message *message, uint64_t number)
{
	message->type = 1 + number % 5;
	fill(message->text, MOST_TEXT, seed + number);
}

static void *send_on(void *unused)
{
	static struct message message;
	uint64_t number = 0;

	(void)unused;
	for (; !ends; number++) {
		make(&message, number);
		EXPECT(msgsnd(stream, &message, length_of(number), 0) == 0, "msgsnd: %s", strerror(errno));
	}
	message.type = 6;
	EXPECT(msgsnd(stream, &message, 0, 0) == 0, "msgsnd: %s", strerror(errno));
	return NULL;
}

static void expect_message(const char *what, const struct message *got, ssize_t length, uint64_t number)
{
	static struct message expected;

	EXPECT(length >= 0, "%s: msgrcv: %s", what, strerror(errno));
	make(&expected, number);
	EXPECT_EQ(what, length, length_of(number));
	EXPECT_EQ(what, got->type, expected.type);
	EXPECT(memcmp(got->text, expected.text, length) == 0, "%s: message %llu has another text", what, (unsigned long long)number);
}

static void *take_on(void *unused)
{
	static struct message message;

	(void)unused;
	for (;;) {
		ssize_t length = msgrcv(stream, &message, MOST_TEXT, 0, 0);

		if (message.type == 6 && length == 0)
			return NULL;
		expect_message("stream", &message, length, taken);
		taken++;
	}
}

int main(int argc, char **argv)
{
	static struct message message;

	begin(argc, argv);
	key_t key = 0x5c000000 | getpid();
	int others = setegid(2345) == 0 && seteuid(1234) == 0;
	int keyed = new_queue(key, 0640);
	if (others)
		NEED(seteuid(0) == 0 && setegid(0) == 0);
	for (int i = 0; i < KEPT; i++) {
		make(&message, i);
		/* What does not fit is left out. */
		if (msgsnd(keyed, &message, length_of(i), IPC_NOWAIT) != 0)
			NEED(errno == EAGAIN);
	}
	struct msqid_ds before = queue_told(keyed), told = before;
	NEED(before.msg_qnum > 1 && before.msg_lspid == getpid());
	/* Less than there is in it. */
	told.msg_qbytes = 1000;
	told.msg_perm.uid = 12;
	told.msg_perm.gid = 34;
	told.msg_perm.mode = 0604;
	NEED(msgctl(keyed, IPC_SET, &told) == 0);
	int emptied = new_queue(IPC_PRIVATE, 0606);
	message.type = 9;
	NEED(msgsnd(emptied, &message, 100, 0) == 0 && msgrcv(emptied, &message, MOST_TEXT, 9, 0) == 100);

	stream = new_queue(IPC_PRIVATE, 0600);
	pthread_t threads[] = { start_thread(send_on, NULL), start_thread(take_on, NULL) };
	ready();
	uint64_t begun = taken;
	await_check();
	for (int i = 0; i < 5000 && taken == begun; i++)
		pause_ms(1);
	EXPECT(taken > begun, "nothing is taken any more");
	ends = 1;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);

	EXPECT(msgget(key, 0) == keyed, "the key leads to another queue");
	told = queue_told(keyed);
	EXPECT_EQ("messages", told.msg_qnum, before.msg_qnum);
	EXPECT_EQ("bytes", told.__msg_cbytes, before.__msg_cbytes);
	EXPECT_EQ("limit", told.msg_qbytes, 1000);
	EXPECT_EQ("who sent last", told.msg_lspid, getpid());
	EXPECT_EQ("who took last", told.msg_lrpid, 0);
	EXPECT(told.msg_stime != 0 && told.msg_rtime == 0, "sent at %ld, taken at %ld", told.msg_stime, told.msg_rtime);
	expect_permissions("keyed", told.msg_perm, 12, 34, others ? 1234 : geteuid(), others ? 2345 : getegid(), 0604);
	EXPECT(msgsnd(keyed, &message, 1, IPC_NOWAIT) == -1 && errno == EAGAIN, "it takes more than it may hold");
	uint64_t bytes = 0;
	for (int i = 0; i < KEPT; i++) {
		if (bytes + length_of(i) > before.msg_qbytes)
			continue;
		expect_message("kept", &message, msgrcv(keyed, &message, MOST_TEXT, 0, IPC_NOWAIT), i);
		bytes += length_of(i);
	}
	EXPECT(msgrcv(keyed, &message, MOST_TEXT, 0, IPC_NOWAIT) == -1 && errno == ENOMSG, "there are more messages");
	told = queue_told(emptied);
	EXPECT(told.msg_qnum == 0 && told.msg_lspid == getpid() && told.msg_lrpid == getpid(), "%lu messages, %d, %d",
	       told.msg_qnum, told.msg_lspid, told.msg_lrpid);
	EXPECT_EQ("limit", told.msg_qbytes, before.msg_qbytes);
	expect_permissions("emptied", told.msg_perm, geteuid(), getegid(), geteuid(), getegid(), 0606);
	EXPECT_OK(msgctl(keyed, IPC_RMID, NULL));
	EXPECT_OK(msgctl(emptied, IPC_RMID, NULL));
	EXPECT_OK(msgctl(stream, IPC_RMID, NULL));
	passed();
}
