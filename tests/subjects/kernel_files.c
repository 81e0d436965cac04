/* Files of the kernel: of the process itself, of none, in /sys; each with its position. */
#include "subject.h"

static volatile uint64_t in_memory = 0x1122334455667788;

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags);

	NEED(fd >= 0);
	return fd;
}

int main(int argc, char **argv)
{
	char text[4096], name[64];
	uint64_t word = 0;

	begin(argc, argv);
	int status = must_open("/proc/self/status", O_RDONLY), memory = must_open("/proc/self/mem", O_RDWR);
	int comm = must_open("/proc/thread-self/comm", O_RDWR), itself = must_open("/proc/self", O_RDONLY | O_DIRECTORY);
	int version = must_open("/proc/sys/kernel/ostype", O_RDONLY), meminfo = must_open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	int sys = must_open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY), top = must_open("/proc", O_PATH);
	NEED(read(version, text, 2) == 2 && lseek(memory, (off_t)(uintptr_t)&in_memory, SEEK_SET) > 0);
	NEED(read(meminfo, text, 30) == 30 && read(sys, text, 3) == 3);
	ready();
	await_check();

	ssize_t got = read(status, text, sizeof text - 1);
	EXPECT(got > 0, "status: %s", strerror(errno));
	text[got] = 0;
	snprintf(name, sizeof name, "\nPid:\t%d\n", (int)getpid());
	EXPECT(strstr(text, name), "status is of another process: %.300s", text);
	EXPECT(read(memory, &word, 8) == 8 && word == in_memory, "its memory reads as %llx", (unsigned long long)word);
	EXPECT_EQ("name written", write(comm, "renamed", 7), 7);
	EXPECT_OK(prctl(PR_GET_NAME, name));
	EXPECT(strcmp(name, "renamed") == 0, "its name is %s", name);
	int again = openat(itself, "comm", O_RDONLY);
	EXPECT(again >= 0 && read(again, name, sizeof name) == 8, "its directory: %s", strerror(errno));
	got = read(version, text, sizeof text);
	EXPECT(got == 4 && memcmp(text, "nux\n", 4) == 0, "the rest is %zd bytes", got);
	EXPECT_EQ("position in meminfo", lseek(meminfo, 0, SEEK_CUR), 30);
	EXPECT_EQ("position in /sys", lseek(sys, 0, SEEK_CUR), 3);
	EXPECT_OK(faccessat(top, "uptime", R_OK, 0));
	passed();
}
