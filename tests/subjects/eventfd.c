/* Event descriptors: all 64 bits of the count, semaphores, flags, a duplicate of the same one. */
#include "subject.h"
#include <sys/eventfd.h>

static uint64_t take(int fd)
{
	uint64_t count = 0;

	EXPECT(read(fd, &count, 8) == 8, "read of an eventfd: %s", strerror(errno));
	return count;
}

int main(int argc, char **argv)
{
	uint64_t huge = 0xfffffffffffffffeULL, large = 0x123456789aULL, three = 3;

	begin(argc, argv);
	int full = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), plain = eventfd(5, 0), semaphore = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
	int big = eventfd(0, EFD_SEMAPHORE), zero = eventfd(0, EFD_NONBLOCK);
	NEED(full >= 0 && plain >= 0 && semaphore >= 0 && big >= 0 && zero >= 0);
	NEED(write(full, &huge, 8) == 8 && write(semaphore, &three, 8) == 8 && write(big, &large, 8) == 8);
	int another = dup(plain);
	NEED(another >= 0);
	ready();
	await_check();

	EXPECT_EQ("flags", fcntl(full, F_GETFL), O_RDWR | O_NONBLOCK);
	EXPECT_EQ("close-on-exec", fcntl(full, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("flags", fcntl(plain, F_GETFL), O_RDWR);
	EXPECT(write(full, &three, 8) == -1 && errno == EAGAIN, "the full eventfd is not full any more");
	EXPECT_EQ("the full count", take(full), huge);
	EXPECT(read(full, &huge, 8) == -1 && errno == EAGAIN, "it should be empty and not block");
	EXPECT_EQ("the length written to the duplicate", write(another, &three, 8), 8);
	EXPECT_EQ("the plain count and what its duplicate added", take(plain), 8);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ("the semaphore's step", take(semaphore), 1);
	EXPECT(read(semaphore, &huge, 8) == -1 && errno == EAGAIN, "the semaphore gave more than it had");
	EXPECT_EQ("the large semaphore's step", take(big), 1);
	EXPECT(read(zero, &huge, 8) == -1 && errno == EAGAIN, "zero is not zero any more");
	/* The kernel tells what is left of a semaphore nowhere but here. */
	char path[64], text[512] = "";
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", big);
	read_whole(path, text, sizeof text - 1);
	const char *count = strstr(text, "eventfd-count:");
	EXPECT(count && strtoull(count + 14, NULL, 16) == large - 1, "the large semaphore's rest: %s", count ? count : "none");
	passed();
}
