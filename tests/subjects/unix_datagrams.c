/* Datagram sockets with names: many that send to one, connected ones, one that is connected to itself, senders that are closed, an
 * unlinked path, names that are relative, a socket that is nothing yet. */
#include "unix.h"

static void send_to_path(int fd, const char *name, const char *text)
{
	struct sockaddr_un to = by_path(name);

	NEED(sendto(fd, text, strlen(text), MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) == (ssize_t)strlen(text));
}

static void expect_from(const char *what, int fd, const char *text, const void *name, size_t length)
{
	char bytes[64];
	struct received got = receive(fd, bytes, sizeof bytes, 0);

	EXPECT(got.length == (ssize_t)strlen(text) && memcmp(bytes, text, got.length) == 0, "%s: expected \"%s\", got %zd (%s)", what,
	       text, got.length, strerror(got.error));
	EXPECT((got.from_length == 0 && length == 0) ||
		       (got.from_length == address_length(length) && memcmp(got.from.sun_path, name, length) == 0),
	       "%s: from another: %u bytes: %s", what, got.from_length, got.from.sun_path);
}

int main(int argc, char **argv)
{
	char abstract_name[64];
	socklen_t length;

	begin(argc, argv);
	snprintf(abstract_name, sizeof abstract_name, "datagrams %d", (int)getpid());
	int server = bound_to_path(SOCK_DGRAM, "server");
	int by_abstract = bound_to_name(SOCK_DGRAM, abstract_name);
	int by_other_path = bound_to_path(SOCK_DGRAM, "client");
	int unnamed = socket(AF_UNIX, SOCK_DGRAM, 0), nothing = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int gone = bound_to_path(SOCK_DGRAM, "gone");
	NEED(unnamed >= 0 && nothing >= 0);
	send_to_path(by_other_path, "server", "by path");
	send_to_path(by_abstract, "server", "by name");
	send_to_path(unnamed, "server", "by nobody");
	send_to_path(gone, "server", "by one that is gone");
	send_to_path(by_other_path, "server", "");
	NEED(close(gone) == 0 && unlink(path_of("gone")) == 0);

	int connected = socket(AF_UNIX, SOCK_DGRAM, 0);
	NEED(connect_to_path(connected, "server") == 0 && send(connected, "connected", 9, MSG_DONTWAIT) == 9);
	int to_abstract = socket(AF_UNIX, SOCK_DGRAM, 0);
	NEED(connect_to_name(to_abstract, abstract_name) == 0);
	int itself = bound_to_path(SOCK_DGRAM, "itself");
	NEED(connect_to_path(itself, "itself") == 0 && send(itself, "echo", 4, MSG_DONTWAIT) == 4);
	int unlinked = bound_to_path(SOCK_DGRAM, "unlinked"), speaks = socket(AF_UNIX, SOCK_DGRAM, 0);
	NEED(connect_to_path(speaks, "unlinked") == 0 && unlink(path_of("unlinked")) == 0 && send(speaks, "psst", 4, 0) == 4);
	int gone_peer = bound_to_path(SOCK_DGRAM, "peer"), widow = socket(AF_UNIX, SOCK_DGRAM, 0);
	NEED(connect_to_path(widow, "peer") == 0 && close(gone_peer) == 0 && unlink(path_of("peer")) == 0);
	/* Relative, and renamed since. */
	int relative = socket(AF_UNIX, SOCK_DGRAM, 0), here = open(".", O_RDONLY | O_DIRECTORY);
	struct sockaddr_un name = { AF_UNIX, "relative" };
	NEED(chdir(path_of("")) == 0 && bind(relative, (struct sockaddr *)&name, sizeof name) == 0);
	NEED(fchdir(here) == 0 && close(here) == 0);
	char from[PATH_MAX];
	strcpy(from, path_of("relative"));
	NEED(rename(from, path_of("renamed")) == 0);
	/* A pair of which one has a name and speaks to another by now. */
	int pair[2];
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0 && connect_to_path(pair[0], "server") == 0);
	ready();
	await_check();

	struct sockaddr_un path = by_path("client");
	expect_from("by path", server, "by path", path.sun_path, strlen(path.sun_path) + 1);
	path = by_name(abstract_name, &length);
	expect_from("by name", server, "by name", path.sun_path, length - address_length(0));
	expect_from("by nobody", server, "by nobody", "", 0);
	path = by_path("gone");
	expect_from("by one that is gone", server, "by one that is gone", path.sun_path, strlen(path.sun_path) + 1);
	path = by_path("client");
	expect_from("of no bytes", server, "", path.sun_path, strlen(path.sun_path) + 1);
	expect_from("connected", server, "connected", "", 0);
	expect_empty("server", server);
	path = by_path("server");
	expect_address("connected", connected, getpeername, path.sun_path, strlen(path.sun_path) + 1);
	EXPECT_EQ("send by the connected one", send(connected, "again", 5, MSG_DONTWAIT), 5);
	expect_text("sent by the connected one", server, "again");
	EXPECT_EQ("send to the abstract one", send(to_abstract, "hello", 5, MSG_DONTWAIT), 5);
	expect_text("sent to the abstract one", by_abstract, "hello");
	send_to_path(nothing, "client", "something");
	expect_text("sent by a socket that was nothing", by_other_path, "something");
	expect_text("to itself", itself, "echo");
	EXPECT(send(itself, "again", 5, MSG_DONTWAIT) == 5, "send to itself: %s", strerror(errno));
	expect_text("to itself again", itself, "again");
	expect_text("to what is unlinked", unlinked, "psst");
	EXPECT(send(speaks, "more", 4, MSG_DONTWAIT) == 4, "send to what is unlinked: %s", strerror(errno));
	expect_text("more to what is unlinked", unlinked, "more");
	path = by_path("peer");
	expect_address("widow", widow, getpeername, path.sun_path, strlen(path.sun_path) + 1);
	EXPECT(send(widow, "x", 1, MSG_DONTWAIT) == -1 && errno == ECONNREFUSED, "send to what is closed: %s", strerror(errno));
	expect_address("relative", relative, getsockname, "relative", 9);
	send_to_path(unnamed, "renamed", "found");
	expect_text("found where it was renamed to", relative, "found");
	EXPECT(access(path_of("relative"), F_OK) == -1, "the old path is there");
	EXPECT_EQ("send by the one of the pair", send(pair[0], "to another", 10, MSG_DONTWAIT), 10);
	expect_text("sent by the one of the pair", server, "to another");
	EXPECT(send(pair[1], "x", 1, MSG_DONTWAIT) == -1 && errno == EPERM, "send by the other: %s", strerror(errno));
	passed();
}
