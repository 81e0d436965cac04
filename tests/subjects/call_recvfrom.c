/* Moved inside a recvfrom of a UDP socket. */
#include "call.h"
#include "inet.h"

static int fd;
static char got[16];
static address from;

static struct answer call(void)
{
	return ANSWER(recvfrom(fd, got, sizeof got, 0, &from.any, &(socklen_t){ sizeof from }));
}

static void put(pid_t tid)
{
	address to = v4("127.0.0.1", 20251);

	(void)tid;
	EXPECT_EQ("length sent", sendto(fd, "hello", 5, 0, &to.any, size_of(&to)), 5);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	fd = bound_to(SOCK_DGRAM, 0, v4("127.0.0.1", 20251));
	block_until_check("recvfrom", call, put, (struct answer){ 5, 0 });
	EXPECT(memcmp(got, "hello", 5) == 0, "what was received: %.5s", got);
	passed();
}
