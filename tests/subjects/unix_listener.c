/* Listeners by path, abstract and autobound: names of all ends, connections that wait in their order, with one that has been closed
 * since; mode and owner of the file; new connections afterwards. */
#include "unix.h"

static int connected(int type, const char *path)
{
	int fd = socket(AF_UNIX, type, 0);

	NEED(fd >= 0 && connect_to_path(fd, path) == 0);
	return fd;
}

int main(int argc, char **argv)
{
	char abstract_name[64];
	struct stat status;

	begin(argc, argv);
	snprintf(abstract_name, sizeof abstract_name, "listener %d", (int)getpid());
	int listener = bound_to_path(SOCK_STREAM, "socket");
	NEED(chmod(path_of("socket"), 0640) == 0);
	NEED(geteuid() != 0 || chown(path_of("socket"), 12, 34) == 0);
	NEED(listen(listener, 3) == 0);
	int client = connected(SOCK_STREAM, "socket");
	int accepted = accept(listener, NULL, NULL);
	NEED(accepted >= 0);
	int first = connected(SOCK_STREAM, "socket"), second = connected(SOCK_STREAM, "socket");
	int closed = connected(SOCK_STREAM, "socket"), third = connected(SOCK_STREAM, "socket");
	NEED(shutdown(second, SHUT_WR) == 0);
	close(closed);

	int by_abstract = bound_to_name(SOCK_SEQPACKET, abstract_name);
	NEED(listen(by_abstract, 0) == 0);
	int abstract_client = bound_to_name(SOCK_SEQPACKET, path_of("its own"));
	NEED(connect_to_name(abstract_client, abstract_name) == 0);
	int abstract_accepted = accept4(by_abstract, NULL, NULL, SOCK_NONBLOCK);
	NEED(abstract_accepted >= 0);
	int waiting = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	NEED(waiting >= 0 && connect_to_name(waiting, abstract_name) == 0);

	/* Whose listener is gone. */
	int gone = bound_to_path(SOCK_STREAM, "gone");
	NEED(listen(gone, 1) == 0);
	int gone_client = connected(SOCK_STREAM, "gone");
	int gone_accepted = accept(gone, NULL, NULL);
	NEED(gone_accepted >= 0 && close(gone) == 0 && unlink(path_of("gone")) == 0);

	struct sockaddr_un autobound;
	socklen_t length = sizeof autobound;
	int made_up = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(made_up >= 0 && bind(made_up, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, sizeof(sa_family_t)) == 0);
	NEED(getsockname(made_up, (struct sockaddr *)&autobound, &length) == 0 && length == address_length(6));
	int unlinked = bound_to_path(SOCK_STREAM, "unlinked");
	NEED(unlink(path_of("unlinked")) == 0 && listen(unlinked, 5) == 0);
	ready();
	await_check();

	struct sockaddr_un path = by_path("socket"), name = by_name(abstract_name, &length);
	size_t path_length = strlen(path.sun_path) + 1, name_length = length - address_length(0);
	EXPECT_OK(lstat(path.sun_path, &status));
	EXPECT_EQ("mode of the file", status.st_mode, S_IFSOCK | 0640);
	EXPECT_EQ("owner of the file", status.st_uid, geteuid() ? geteuid() : 12);
	EXPECT_EQ("group of the file", status.st_gid, geteuid() ? getegid() : 34);
	EXPECT(lstat(path_of("unlinked"), &status) == -1, "what was unlinked is there again");
	EXPECT_EQ("it listens", option(listener, SO_ACCEPTCONN), 1);
	expect_address("listener", listener, getsockname, path.sun_path, path_length);
	expect_address("client", client, getpeername, path.sun_path, path_length);
	expect_address("accepted", accepted, getsockname, path.sun_path, path_length);
	expect_address("client's own", client, getsockname, "", 0);
	expect_connected("accepted", client, accepted);
	EXPECT_EQ("send over a connection that waits", send(first, "early", 5, MSG_DONTWAIT), 5);
	int one = accept(listener, NULL, NULL), two = accept(listener, NULL, NULL), nobody = accept(listener, NULL, NULL);
	int three = accept(listener, NULL, NULL);
	EXPECT(one >= 0 && two >= 0 && nobody >= 0 && three >= 0, "accept: %s", strerror(errno));
	expect_text("what was sent before it was accepted", one, "early");
	expect_connected("first that waited", first, one);
	expect_end("second that waited, which sends no more", two);
	EXPECT_EQ("back to it", send(two, "x", 1, MSG_NOSIGNAL), 1);
	expect_text("back to it", second, "x");
	expect_end("third, which was closed", nobody);
	expect_connected("fourth that waited", third, three);
	struct ucred who;
	length = sizeof who;
	EXPECT_OK(getsockopt(one, SOL_SOCKET, SO_PEERCRED, &who, &length));
	EXPECT_EQ("who waited", who.pid, getpid());

	expect_address("abstract listener", by_abstract, getsockname, name.sun_path, name_length);
	expect_address("abstract accepted", abstract_accepted, getsockname, name.sun_path, name_length);
	expect_address("abstract client", abstract_client, getpeername, name.sun_path, name_length);
	name = by_name(path_of("its own"), &length);
	expect_address("abstract client's own", abstract_client, getsockname, name.sun_path, length - address_length(0));
	expect_address("who is connected", abstract_accepted, getpeername, name.sun_path, length - address_length(0));
	expect_connected("abstract", abstract_client, abstract_accepted);
	EXPECT_EQ("flags of the accepted one", fcntl(abstract_accepted, F_GETFL), O_RDWR | O_NONBLOCK);
	/* Full: one may wait when the backlog is 0. */
	int more = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	EXPECT(connect_to_name(more, abstract_name) == -1 && errno == EAGAIN, "the backlog is another: %s", strerror(errno));
	int was_waiting = accept(by_abstract, NULL, NULL);
	EXPECT(was_waiting >= 0, "accept: %s", strerror(errno));
	expect_connected("abstract that waited", waiting, was_waiting);

	path = by_path("gone");
	expect_address("accepted by one that is gone", gone_accepted, getsockname, path.sun_path, strlen(path.sun_path) + 1);
	expect_connected("accepted by one that is gone", gone_client, gone_accepted);
	expect_address("autobound", made_up, getsockname, autobound.sun_path, 6);
	EXPECT_OK(listen(made_up, 1));
	path = by_path("unlinked");
	expect_address("unlinked", unlinked, getsockname, path.sun_path, strlen(path.sun_path) + 1);

	int late = socket(AF_UNIX, SOCK_STREAM, 0);
	EXPECT_OK(connect_to_path(late, "socket"));
	int late_accepted = accept(listener, NULL, NULL);
	EXPECT(late_accepted >= 0, "accept: %s", strerror(errno));
	expect_connected("a new connection", late, late_accepted);
	passed();
}
