/* Moved inside recvmsg of a datagram socket, which then gets a message with a descriptor. */
#include "call.h"
#include <sys/socket.h>

static int ends[2];
static int got = -1;

static struct answer call(void)
{
	char bytes[64], control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec part = { bytes, sizeof bytes };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct answer answer = ANSWER(recvmsg(ends[0], &message, 0));

	if (answer.value >= 0 && CMSG_FIRSTHDR(&message))
		memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
	return answer;
}

static void wake(pid_t tid)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec part = { "message", 7 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	(void)tid;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(header), &ends[1], sizeof(int));
	EXPECT(sendmsg(ends[1], &message, 0) == 7, "sendmsg: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
	block_until_check("recvmsg", call, wake, (struct answer){ 7, 0 });
	EXPECT(send(got, "x", 1, 0) == 1, "send by what came: %s", strerror(errno));
	passed();
}
