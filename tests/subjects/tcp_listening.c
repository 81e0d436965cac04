/* TCP sockets: closed, bound, listening on IPv4 and IPv6, a reuseport group, with a filter; they accept after the move. */
#include "inet.h"
#include <linux/filter.h>
#include <netinet/tcp.h>

static int listener(address at, int backlog, int option)
{
	int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	NEED(fd >= 0);
	set_number(fd, SOL_SOCKET, option, 1);
	NEED(bind(fd, &at.any, size_of(&at)) == 0 && listen(fd, backlog) == 0);
	return fd;
}

static void expect_connection(const char *what, int fd, address to)
{
	int client = socket(to.any.sa_family, SOCK_STREAM, 0), server;
	char text[4];

	EXPECT(connect(client, &to.any, size_of(&to)) == 0, "connect to %s: %s", what, strerror(errno));
	server = accept(fd, NULL, NULL);
	EXPECT(server >= 0, "accept at %s: %s", what, strerror(errno));
	EXPECT(write(client, "abc", 3) == 3 && read(server, text, 4) == 3, "%s: what is written does not arrive", what);
	/* The client first: what is left of the connection then keeps its port, not the listener's. */
	close(client);
	EXPECT(read(server, text, 4) == 0, "%s: the end does not arrive", what);
	close(server);
}

static unsigned backlog_of(int fd)
{
	struct tcp_info info;

	memset(&info, 0, sizeof info);
	EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t){ sizeof info }));
	EXPECT_EQ("state", info.tcpi_state, TCP_LISTEN);
	return info.tcpi_sacked;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	address a = v4("127.0.0.1", 20201), b = v4("0.0.0.0", 20202), group = v4("127.0.0.1", 20203), nothing = v4("0.0.0.0", 0);
	address to_b = v4("127.0.0.1", 20202), c = v4("127.0.0.1", 20204), six = v6("::", 20205), filtered_at = v4("127.0.0.1", 20206);
	int closed = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), bound = bound_to(SOCK_STREAM, 0, a);
	int one = listener(b, 7, SO_REUSEADDR), first = listener(group, 5, SO_REUSEPORT), second = listener(group, 6, SO_REUSEPORT);
	int with_v6 = has_v6(), dual = -1, twice;

	NEED(closed >= 0);
	NEED(fcntl(one, F_SETFL, O_NONBLOCK) == 0 && (twice = dup(one)) >= 0);
	/* Two bound to one port, of which one listens. */
	int bound_beside = socket(AF_INET, SOCK_STREAM, 0);
	set_number(bound_beside, SOL_SOCKET, SO_REUSEADDR, 1);
	NEED(bind(bound_beside, &c.any, size_of(&c)) == 0);
	int bound_too = socket(AF_INET, SOCK_STREAM, 0);
	set_number(bound_too, SOL_SOCKET, SO_REUSEADDR, 1);
	NEED(bind(bound_too, &c.any, size_of(&c)) == 0);
	if (with_v6)
		dual = listener(six, 3, SO_REUSEADDR);
	/* A filter that lets everything pass, which must be in place of any other. */
	struct sock_filter steps[] = { BPF_STMT(BPF_RET | BPF_K, 0x12345) };
	struct sock_fprog program = { 1, steps };
	int filtered = listener(filtered_at, 4, SO_REUSEADDR);
	NEED(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
	set_number(filtered, SOL_SOCKET, SO_LOCK_FILTER, 1);
	ready();
	await_check();

	expect_name("the closed one", closed, nothing);
	EXPECT_EQ("flags of the closed one", fcntl(closed, F_GETFL), O_RDWR | O_NONBLOCK);
	EXPECT_EQ("flags of the listener", fcntl(twice, F_GETFL), O_RDWR | O_NONBLOCK);
	expect_name("the bound one", bound, a);
	expect_name("the listener", one, b);
	EXPECT_EQ("backlog", backlog_of(one), 7);
	EXPECT_EQ("backlog of the group's second", backlog_of(second), 6);
	EXPECT(accept(one, NULL, NULL) == -1 && errno == EAGAIN, "a connection waits that nobody made");
	struct sock_filter got[4];
	socklen_t length = 4;
	EXPECT(getsockopt(one, SOL_SOCKET, SO_GET_FILTER, got, &length) == 0 && length == 0, "a filter is left");
	length = 4;
	EXPECT_OK(getsockopt(filtered, SOL_SOCKET, SO_GET_FILTER, got, &length));
	EXPECT(length == 1 && got[0].k == 0x12345, "the filter is another one");
	EXPECT_EQ("SO_LOCK_FILTER", number(filtered, SOL_SOCKET, SO_LOCK_FILTER), 1);
	expect_connection("the listener", one, to_b);
	expect_connection("the filtered listener", filtered, filtered_at);
	/* A connection to the group goes to one of the two; with the other gone it must go to the one left. */
	close(first);
	expect_connection("the group's second", second, group);
	EXPECT(listen(bound, 3) == 0, "listen at the bound one: %s", strerror(errno));
	expect_connection("the bound one", bound, a);
	expect_name("the one beside", bound_beside, c);
	EXPECT_OK(listen(bound_too, 2));
	EXPECT(listen(bound_beside, 2) == -1 && errno == EADDRINUSE, "two listen at one port");
	expect_connection("the one that was bound too", bound_too, c);
	EXPECT(connect(closed, &to_b.any, size_of(&to_b)) == -1 && errno == EINPROGRESS, "connect of the closed one: %s", strerror(errno));
	if (with_v6) {
		expect_name("the one of IPv6", dual, six);
		expect_connection("the one of IPv6", dual, v6("::1", 20205));
		expect_connection("the one of IPv6, by IPv4", dual, v4("127.0.0.1", 20205));
	}
	passed();
}
