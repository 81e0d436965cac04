/* Options of TCP sockets that are not connected, and that accepted connections inherit. */
#include "inet.h"
#include <netinet/tcp.h>

static const struct { int level, name, value; } options[] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1 }, { IPPROTO_TCP, TCP_KEEPIDLE, 77 }, { IPPROTO_TCP, TCP_KEEPINTVL, 11 },
	{ IPPROTO_TCP, TCP_KEEPCNT, 3 }, { IPPROTO_TCP, TCP_SYNCNT, 4 }, { IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 3 }, { IPPROTO_TCP, TCP_FASTOPEN, 9 }, { IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4321 },
	{ IPPROTO_TCP, TCP_MAXSEG, 1000 }, { IPPROTO_TCP, TCP_WINDOW_CLAMP, 30000 }, { IPPROTO_TCP, TCP_LINGER2, 20 },
	{ IPPROTO_TCP, TCP_SAVE_SYN, 1 }, { SOL_SOCKET, SO_KEEPALIVE, 1 }, { SOL_SOCKET, SO_RCVLOWAT, 5 },
	{ SOL_SOCKET, SO_RCVBUF, 50000 }, { SOL_SOCKET, SO_OOBINLINE, 1 }, { IPPROTO_IP, IP_TOS, 0x10 }, { IPPROTO_IP, IP_TTL, 44 },
};

#define COUNT (sizeof options / sizeof options[0])

int main(int argc, char **argv)
{
	begin(argc, argv);
	address at = v4("127.0.0.1", 20211);
	int fd = socket(AF_INET, SOCK_STREAM, 0), values[COUNT], closed = socket(AF_INET, SOCK_STREAM, 0);
	struct linger linger = { 1, 6 };

	for (size_t i = 0; i < COUNT; i++) {
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) != 0)
			failed("setting up: option %d/%d: %s", options[i].level, options[i].name, strerror(errno));
		values[i] = number(fd, options[i].level, options[i].name);
	}
	NEED(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
	/* Reno is in every kernel. */
	NEED(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
	NEED(bind(fd, &at.any, size_of(&at)) == 0 && listen(fd, 8) == 0);
	set_number(closed, IPPROTO_TCP, TCP_NODELAY, 1);
	ready();
	await_check();

	for (size_t i = 0; i < COUNT; i++) {
		int got = number(fd, options[i].level, options[i].name);

		EXPECT(got == values[i], "option %d/%d: expected %d, got %d", options[i].level, options[i].name, values[i], got);
	}
	struct linger got;
	EXPECT_OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &got, &(socklen_t){ sizeof got }));
	EXPECT(got.l_onoff == 1 && got.l_linger == 6, "SO_LINGER: %d, %d", got.l_onoff, got.l_linger);
	char name[16] = "";
	EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &(socklen_t){ sizeof name }));
	EXPECT(strcmp(name, "reno") == 0, "TCP_CONGESTION: %s", name);
	EXPECT_EQ("TCP_NODELAY of the closed one", number(closed, IPPROTO_TCP, TCP_NODELAY), 1);
	EXPECT_EQ("TCP_KEEPIDLE that nobody set", number(closed, IPPROTO_TCP, TCP_KEEPIDLE), 7200);
	/* With data, because of TCP_DEFER_ACCEPT. */
	EXPECT_OK(connect(closed, &at.any, size_of(&at)));
	EXPECT_EQ("written", write(closed, "hello", 5), 5);
	int server = accept(fd, NULL, NULL);
	EXPECT(server >= 0, "accept: %s", strerror(errno));
	EXPECT_EQ("TCP_KEEPIDLE of an accepted one", number(server, IPPROTO_TCP, TCP_KEEPIDLE), 77);
	EXPECT_EQ("TCP_NODELAY of an accepted one", number(server, IPPROTO_TCP, TCP_NODELAY), 1);
	passed();
}
