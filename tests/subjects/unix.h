/* What subjects with unix sockets share. */
#ifndef UNIX_H
#define UNIX_H
#include "subject.h"
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

/* The length of an address whose name is `length` bytes. */
static UNUSED socklen_t address_length(size_t length)
{
	return offsetof(struct sockaddr_un, sun_path) + length;
}

/* A path in the subject's directory. */
static UNUSED struct sockaddr_un by_path(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	NEED(strlen(path_of(name)) < sizeof address.sun_path);
	strcpy(address.sun_path, path_of(name));
	return address;
}

/* An abstract name of this process; its length is that of the address. */
static UNUSED struct sockaddr_un by_name(const char *name, socklen_t *length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int used = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "migrate-subject %s", name);

	*length = address_length(1 + used);
	return address;
}

static UNUSED int bound_to_path(int type, const char *name)
{
	struct sockaddr_un address = by_path(name);
	int fd = socket(AF_UNIX, type, 0);

	NEED(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
	return fd;
}

static UNUSED int bound_to_name(int type, const char *name)
{
	socklen_t length;
	struct sockaddr_un address = by_name(name, &length);
	int fd = socket(AF_UNIX, type, 0);

	NEED(fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0);
	return fd;
}

static UNUSED int connect_to_path(int fd, const char *name)
{
	struct sockaddr_un address = by_path(name);

	return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static UNUSED int connect_to_name(int fd, const char *name)
{
	socklen_t length;
	struct sockaddr_un address = by_name(name, &length);

	return connect(fd, (struct sockaddr *)&address, length);
}

static UNUSED int option(int fd, int name)
{
	int value = -1;
	socklen_t length = sizeof value;

	if (getsockopt(fd, SOL_SOCKET, name, &value, &length) != 0)
		failed("getsockopt %d of %d: %s", name, fd, strerror(errno));
	return value;
}

static UNUSED void set_option(int fd, int name, int value)
{
	NEED(setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0);
}

/* Sends bytes with descriptors, and as whom if that is said. */
static UNUSED ssize_t send_with(int fd, const void *bytes, size_t length, const int *fds, int count, const struct ucred *as)
{
	char control[1024] __attribute__((aligned(8)));
	struct iovec part = { (void *)bytes, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	size_t used = 0;

	memset(control, 0, sizeof control);
	if (count > 0) {
		struct cmsghdr *header = (struct cmsghdr *)control;

		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
		used += CMSG_SPACE(count * sizeof(int));
	}
	if (as) {
		struct cmsghdr *header = (struct cmsghdr *)(control + used);

		header->cmsg_len = CMSG_LEN(sizeof *as);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_CREDENTIALS;
		memcpy(CMSG_DATA(header), as, sizeof *as);
		used += CMSG_SPACE(sizeof *as);
	}
	if (used) {
		message.msg_control = control;
		message.msg_controllen = used;
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

struct received {
	ssize_t length;
	int error;
	int flags;
	int fds[16], count;
	int has_credentials;
	struct ucred credentials;
	struct sockaddr_un from;
	socklen_t from_length;
};

static UNUSED struct received receive(int fd, void *bytes, size_t room, int flags)
{
	char control[1024] __attribute__((aligned(8)));
	struct iovec part = { bytes, room };
	struct received got = { .count = 0 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
				  .msg_name = &got.from, .msg_namelen = sizeof got.from };

	got.length = recvmsg(fd, &message, flags | MSG_DONTWAIT);
	got.error = got.length < 0 ? errno : 0;
	got.flags = message.msg_flags;
	got.from_length = got.length < 0 ? 0 : message.msg_namelen;
	if (got.length < 0)
		return got;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
			got.count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(got.fds, CMSG_DATA(header), got.count * sizeof(int));
		} else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
			got.has_credentials = 1;
			memcpy(&got.credentials, CMSG_DATA(header), sizeof got.credentials);
		}
	}
	return got;
}

/* The next message is this text, and nothing beside. */
static UNUSED void expect_text(const char *what, int fd, const char *text)
{
	static char bytes[1 << 16];
	struct received got = receive(fd, bytes, sizeof bytes, 0);

	EXPECT(got.length == (ssize_t)strlen(text) && memcmp(bytes, text, got.length) == 0,
	       "%s: expected \"%s\", got %zd (%s) \"%.*s\"", what, text, got.length, strerror(got.error),
	       got.length > 0 ? (int)got.length : 0, bytes);
	EXPECT_EQ(what, got.count, 0);
}

static UNUSED void expect_empty(const char *what, int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	EXPECT(got == -1 && errno == EAGAIN, "%s: expected nothing, got %zd (%s)", what, got, strerror(errno));
}

static UNUSED void expect_end(const char *what, int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);

	EXPECT(got == 0, "%s: expected the end, got %zd (%s)", what, got, strerror(errno));
}

/* Both ways. */
static UNUSED void expect_connected(const char *what, int one, int other)
{
	EXPECT(send(one, "there", 5, MSG_DONTWAIT | MSG_NOSIGNAL) == 5, "%s: send: %s", what, strerror(errno));
	expect_text(what, other, "there");
	EXPECT(send(other, "back", 4, MSG_DONTWAIT | MSG_NOSIGNAL) == 4, "%s: send back: %s", what, strerror(errno));
	expect_text(what, one, "back");
}

static UNUSED void expect_address(const char *what, int fd, int (*ask)(int, struct sockaddr *, socklen_t *), const void *name,
				  size_t length)
{
	struct sockaddr_un address;
	socklen_t got = sizeof address;

	EXPECT(ask(fd, (struct sockaddr *)&address, &got) == 0, "%s: its address: %s", what, strerror(errno));
	EXPECT(got == address_length(length) && memcmp(address.sun_path, name, length) == 0,
	       "%s: another address of %u bytes: %.*s", what, got, (int)(got - address_length(0)), address.sun_path);
}

#endif
