/* Sockets of the internet: addresses, and what every one is checked for. */
#ifndef INET_H
#define INET_H
#include "subject.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

typedef union {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
} address;

static UNUSED address v4(const char *ip, int port)
{
	address a;

	memset(&a, 0, sizeof a);
	a.v4.sin_family = AF_INET;
	a.v4.sin_port = htons(port);
	inet_pton(AF_INET, ip, &a.v4.sin_addr);
	return a;
}

static UNUSED address v6(const char *ip, int port)
{
	address a;

	memset(&a, 0, sizeof a);
	a.v6.sin6_family = AF_INET6;
	a.v6.sin6_port = htons(port);
	inet_pton(AF_INET6, ip, &a.v6.sin6_addr);
	return a;
}

static UNUSED socklen_t size_of(const address *a)
{
	return a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

static UNUSED int has_v6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	address a = v6("::1", 0);
	int works = fd >= 0 && bind(fd, &a.any, size_of(&a)) == 0;

	if (fd >= 0)
		close(fd);
	return works;
}

static UNUSED const char *shown(const address *a)
{
	static char text[2][80];
	static int turn;
	char ip[64] = "?";

	turn ^= 1;
	if (a->any.sa_family == AF_INET)
		inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof ip);
	else if (a->any.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof ip);
	snprintf(text[turn], sizeof text[0], "%s port %d", ip, ntohs(a->v4.sin_port));
	return text[turn];
}

static UNUSED int same(const address *a, const address *b)
{
	return a->any.sa_family == b->any.sa_family && memcmp(a, b, size_of(a)) == 0;
}

static UNUSED address name_of(int fd)
{
	address a;
	socklen_t length = sizeof a;

	memset(&a, 0, sizeof a);
	EXPECT_OK(getsockname(fd, &a.any, &length));
	return a;
}

static UNUSED void expect_name(const char *what, int fd, address expected)
{
	address got = name_of(fd);

	EXPECT(same(&got, &expected), "%s: bound to %s, not to %s", what, shown(&got), shown(&expected));
}

static UNUSED void expect_peer(const char *what, int fd, address expected)
{
	address got;
	socklen_t length = sizeof got;

	memset(&got, 0, sizeof got);
	EXPECT(getpeername(fd, &got.any, &length) == 0, "%s: %s", what, strerror(errno));
	EXPECT(same(&got, &expected), "%s: connected to %s, not to %s", what, shown(&got), shown(&expected));
}

static UNUSED int bound_to(int type, int protocol, address a)
{
	int fd = socket(a.any.sa_family, type | SOCK_CLOEXEC, protocol);

	NEED(fd >= 0);
	NEED(bind(fd, &a.any, size_of(&a)) == 0);
	return fd;
}

static UNUSED void set_number(int fd, int level, int name, int value)
{
	NEED(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

static UNUSED int number(int fd, int level, int name)
{
	int value = 0;
	socklen_t length = sizeof value;

	EXPECT(getsockopt(fd, level, name, &value, &length) == 0, "option %d/%d: %s", level, name, strerror(errno));
	return value;
}

/* On a busy host the kernel delivers what is sent over the loopback in a thread of its own: a moment later. */
static UNUSED void await_input(int fd)
{
	struct pollfd polled = { .fd = fd, .events = POLLIN };

	poll(&polled, 1, 10000);
}

/* The next datagram, and from whom it is. */
static UNUSED void expect_datagram(const char *what, int fd, const void *data, size_t length, address from)
{
	static char got[70000];
	address sender;
	socklen_t size = sizeof sender;
	ssize_t n;

	memset(&sender, 0, sizeof sender);
	await_input(fd);
	n = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, &sender.any, &size);
	EXPECT(n >= 0, "%s: %s", what, strerror(errno));
	EXPECT_EQ(what, n, length);
	EXPECT(memcmp(got, data, length) == 0, "%s: other bytes", what);
	EXPECT(same(&sender, &from), "%s: from %s, not from %s", what, shown(&sender), shown(&from));
}

static UNUSED void expect_nothing(const char *what, int fd)
{
	char byte;

	EXPECT(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: there is something in it", what);
}

#endif
