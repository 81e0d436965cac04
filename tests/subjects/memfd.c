/*
 * memfds: name, content and holes, seals, permissions, sharing between descriptors and mappings, other access modes by way of /proc; ones
 * that may be executed, never, or cannot be sealed.
 */
#include "subject.h"
#include <linux/memfd.h>

#define ALL (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 16U
#endif
#define SIZE (16 * PAGE + 100)

static int make(const char *name, unsigned flags, uint64_t seed)
{
	int fd = memfd_create(name, flags);
	char page[PAGE];

	NEED(fd >= 0 && ftruncate(fd, SIZE) == 0);
	for (size_t i = 0; i < 16; i += 2) {
		fill(page, PAGE, seed + i);
		NEED(pwrite(fd, page, PAGE, i * PAGE) == (ssize_t)PAGE);
	}
	return fd;
}

static void expect_made(const char *what, int fd, uint64_t seed)
{
	char page[PAGE];
	struct stat status;

	for (size_t i = 0; i < 16; i++) {
		EXPECT(pread(fd, page, PAGE, i * PAGE) == (ssize_t)PAGE, "%s: %s", what, strerror(errno));
		i % 2 ? expect_zero(what, page, PAGE) : expect_filled(what, page, PAGE, seed + i);
	}
	EXPECT_OK(fstat(fd, &status));
	EXPECT_EQ(what, status.st_size, SIZE);
	EXPECT_EQ(what, status.st_blocks, 8 * PAGE / 512);
}

static int reopen(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	again = open(path, flags);
	NEED(again >= 0);
	return again;
}

int main(int argc, char **argv)
{
	struct stat status;

	begin(argc, argv);
	int plain = make("plain \n", 0, 100), open_to_seals = make("can be sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC, 200);
	int sealed = make("", MFD_ALLOW_SEALING, 300), future = make("future", MFD_ALLOW_SEALING, 400);
	int writing = reopen(plain, O_WRONLY | O_APPEND), reading = reopen(sealed, O_RDONLY);
	int never = (int)syscall(SYS_memfd_create, "never", MFD_NOEXEC_SEAL), may = (int)syscall(SYS_memfd_create, "may", MFD_EXEC);
	char *shared = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 2 * PAGE);
	char *before = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0);
	NEED(shared != MAP_FAILED && before != MAP_FAILED);
	NEED(fcntl(sealed, F_ADD_SEALS, ALL | F_SEAL_SEAL) == 0);
	NEED(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK) == 0);
	/* A mapping of what cannot be written any more. */
	char *readable_only = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, reading, 0);
	NEED(readable_only != MAP_FAILED);
	NEED(fchmod(open_to_seals, 0604) == 0 && lseek(plain, 4321, SEEK_SET) == 4321);
	ready();
	await_check();

	expect_made("plain", plain, 100);
	expect_made("can be sealed", open_to_seals, 200);
	expect_made("sealed", reading, 300);
	expect_made("future", future, 400);
	EXPECT_EQ("offset", lseek(plain, 0, SEEK_CUR), 4321);
	EXPECT_EQ("seals of one that cannot be sealed", fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
	EXPECT_EQ("seals of one that can", fcntl(open_to_seals, F_GET_SEALS), 0);
	EXPECT_EQ("seals", fcntl(sealed, F_GET_SEALS), ALL | F_SEAL_SEAL);
	EXPECT_EQ("seals for the future", fcntl(future, F_GET_SEALS), F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK);
	EXPECT(write(sealed, "x", 1) == -1 && errno == EPERM, "what is sealed can be written");
	EXPECT(ftruncate(open_to_seals, 0) == 0, "what is not sealed cannot be made shorter");
	EXPECT(mprotect(readable_only, PAGE, PROT_READ | PROT_WRITE) == -1, "a mapping of what is sealed can be made writable");
	expect_filled("mapped sealed", readable_only, PAGE, 300);
	EXPECT_OK(fstat(open_to_seals, &status));
	EXPECT_EQ("mode", status.st_mode & 07777, 0604);
	/* Mapping and descriptors are one thing. */
	memcpy(shared + PAGE, "by the mapping", 15);
	char text[16];
	EXPECT(pread(plain, text, 15, 3 * PAGE) == 15 && memcmp(text, "by the mapping", 15) == 0, "mapping and memfd have come apart");
	EXPECT(write(writing, "appended", 8) == 8, "append: %s", strerror(errno));
	EXPECT(pread(plain, text, 16, SIZE) == 8 && memcmp(text, "appended", 8) == 0, "the descriptors have come apart");
	memcpy(before, "yet writable", 13);
	EXPECT(pread(future, text, 13, 0) == 13 && memcmp(text, "yet writable", 13) == 0, "its old mapping has come apart");
	if (never >= 0) {
		EXPECT(fcntl(never, F_GET_SEALS) & F_SEAL_EXEC, "the seal against executing is gone");
		EXPECT_OK(fstat(never, &status));
		EXPECT_EQ("mode of what is never executed", status.st_mode & 0111, 0);
		EXPECT_OK(fstat(may, &status));
		EXPECT_EQ("mode of what may be executed", status.st_mode & 0777, 0777);
	}
	passed();
}
