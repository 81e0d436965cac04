/* Descriptors of the process's own namespaces: over there of those that it is in then. */
#include "subject.h"

static const char *const names[] = { "net", "mnt", "pid", "uts", "user", "ipc", "cgroup" };

int main(int argc, char **argv)
{
	int fds[7];
	char path[64];
	struct stat own, held;

	begin(argc, argv);
	for (int i = 0; i < 7; i++) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		fds[i] = open(path, O_RDONLY | (i % 2 ? O_CLOEXEC : 0));
		NEED(fds[i] >= 0);
	}
	ready();
	await_check();
	for (int i = 0; i < 7; i++) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		EXPECT_OK(stat(path, &own));
		EXPECT_OK(fstat(fds[i], &held));
		EXPECT_EQ(names[i], held.st_ino, own.st_ino);
	}
	passed();
}
