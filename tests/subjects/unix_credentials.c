/* SO_PEERCRED of pairs, of what is connected through a listener, and of a listener: of the IDs that the process had then. */
#include "unix.h"
#include <grp.h>
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

static void expect_peer(const char *what, int fd, uid_t uid, gid_t gid)
{
	struct ucred told;
	socklen_t length = sizeof told;

	EXPECT_OK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &told, &length));
	EXPECT_EQ(what, told.pid, getpid());
	EXPECT_EQ(what, told.uid, uid);
	EXPECT_EQ(what, told.gid, gid);
}

static void become(uid_t uid, gid_t gid)
{
	NEED(setresuid(-1, 0, -1) == 0 && setresgid(-1, gid, -1) == 0 && setresuid(-1, uid, -1) == 0);
}

int main(int argc, char **argv)
{
	int as_root[2], as_user[2], datagrams[2];
	gid_t groups[3] = { 44, 55, 66 };

	begin(argc, argv);
	if (geteuid() != 0)
		skipped("needs root");
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, as_root) == 0);
	NEED(setgroups(3, groups) == 0);
	become(1001, 1002);
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, as_user) == 0);
	NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
	become(0, 0);
	int listener = bound_to_path(SOCK_STREAM, "listener");
	become(0, 7);
	NEED(listen(listener, 5) == 0);
	become(0, 8);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(client >= 0 && connect_to_path(client, "listener") == 0);
	become(0, 0);
	int accepted = accept(listener, NULL, NULL);
	NEED(accepted >= 0);
	int alone = socket(AF_UNIX, SOCK_DGRAM, 0);
	NEED(alone >= 0);
	ready();
	await_check();

	expect_peer("pair of root", as_root[0], 0, 0);
	expect_peer("pair of root", as_root[1], 0, 0);
	expect_peer("pair of a user", as_user[0], 1001, 1002);
	expect_peer("datagrams of a user", datagrams[1], 1001, 1002);
	expect_peer("client", client, 0, 7);
	expect_peer("accepted end", accepted, 0, 8);
	expect_peer("listener", listener, 0, 7);
	gid_t told[8] = { 0 };
	socklen_t length = sizeof told;
	EXPECT_OK(getsockopt(as_user[1], SOL_SOCKET, SO_PEERGROUPS, told, &length));
	EXPECT_EQ("groups", length, sizeof groups);
	EXPECT(memcmp(told, groups, sizeof groups) == 0, "other groups: %u %u %u", told[0], told[1], told[2]);
	struct ucred nobody;
	length = sizeof nobody;
	EXPECT_OK(getsockopt(alone, SOL_SOCKET, SO_PEERCRED, &nobody, &length));
	EXPECT_EQ("peer of a socket alone", nobody.pid, 0);
	passed();
}
