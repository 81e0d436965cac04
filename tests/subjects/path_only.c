/* O_PATH descriptors: of a symbolic link that leads nowhere, a socket, a FIFO, a device, a directory, a regular file. */
#include "subject.h"
#include <sys/socket.h>
#include <sys/un.h>

static void expect_type(const char *what, int fd, mode_t type)
{
	struct stat status;

	EXPECT_OK(fstat(fd, &status));
	EXPECT_EQ(what, status.st_mode & S_IFMT, type);
	EXPECT(read(fd, &status, 1) == -1 && errno == EBADF, "%s can be read", what);
}

int main(int argc, char **argv)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	char target[64] = "";

	begin(argc, argv);
	NEED(symlink("leads nowhere", path_of("link")) == 0 && mkfifo(path_of("fifo"), 0600) == 0);
	int bound = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(name.sun_path, sizeof name.sun_path, "%s", path_of("socket"));
	NEED(bound >= 0 && bind(bound, (struct sockaddr *)&name, sizeof name) == 0 && close(bound) == 0);
	close(make_file("file", 1, 1));
	int link = open(path_of("link"), O_PATH | O_NOFOLLOW), fifo = open(path_of("fifo"), O_PATH);
	int socket = open(path_of("socket"), O_PATH), device = open("/dev/null", O_PATH);
	int directory = open(path_of("."), O_PATH), file = open(path_of("file"), O_PATH | O_CLOEXEC);
	NEED(link >= 0 && fifo >= 0 && socket >= 0 && device >= 0 && directory >= 0 && file >= 0);
	ready();
	await_check();
	expect_type("link", link, S_IFLNK);
	expect_type("FIFO", fifo, S_IFIFO);
	expect_type("socket", socket, S_IFSOCK);
	expect_type("device", device, S_IFCHR);
	expect_type("file", file, S_IFREG);
	EXPECT_EQ("where the link leads", readlinkat(link, "", target, sizeof target), 13);
	EXPECT_OK(faccessat(directory, "file", R_OK, 0));
	passed();
}
