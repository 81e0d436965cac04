/*
 * POSIX shared memory: content, size, name, permissions and owner, mapped twice and open, only open, only mapped; one that is unlinked
 * while it is mapped; and a named semaphore, for which a thread waits. Each host has a /dev/shm of its own.
 */
#include "subject.h"
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>

#define PAGES 64UL
#define SIZE (PAGES * PAGE + 100)

static char names[5][40];
static volatile int passed_the_semaphore;

static void *wait_for_it(void *semaphore)
{
	EXPECT(sem_wait(semaphore) == 0, "wait for the semaphore: %m");
	passed_the_semaphore = 1;
	return NULL;
}

static int make(int i, size_t size)
{
	snprintf(names[i], sizeof names[i], "/subject-%d-%d", getpid(), i);
	int fd = shm_open(names[i], O_RDWR | O_CREAT | O_EXCL, 0600);
	NEED(fd >= 0 && ftruncate(fd, size) == 0);
	return fd;
}

static char *map(int fd, size_t size, int protection)
{
	char *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
	NEED(memory != MAP_FAILED);
	return memory;
}

static void expect_named(int fd, const char *name)
{
	char path[60];
	struct stat here, there;

	snprintf(path, sizeof path, "/dev/shm%s", name);
	EXPECT(stat(path, &there) == 0, "%s: %m", path);
	EXPECT(fstat(fd, &here) == 0 && here.st_ino == there.st_ino, "%s is another file", path);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int both = make(0, SIZE), open_only = make(1, 3 * PAGE), mapped_only = make(2, 3 * PAGE), gone = make(3, PAGE);
	char *one = map(both, SIZE, PROT_READ | PROT_WRITE), *two = map(both, SIZE, PROT_READ);
	char *mapped = map(mapped_only, 3 * PAGE, PROT_READ | PROT_WRITE), *unlinked = map(gone, PAGE, PROT_READ | PROT_WRITE);
	int reading = shm_open(names[1], O_RDONLY, 0);
	NEED(close(mapped_only) == 0 && close(gone) == 0 && shm_unlink(names[3]) == 0 && reading >= 0);
	snprintf(names[4], sizeof names[4], "/semaphore-%d", getpid());
	sem_t *semaphore = sem_open(names[4], O_CREAT | O_EXCL, 0600, 0);
	pthread_t waiter;
	NEED(semaphore != SEM_FAILED && pthread_create(&waiter, NULL, wait_for_it, semaphore) == 0);
	NEED(fchmod(both, 0640) == 0 && fchown(both, 12, 34) == 0);
	for (size_t i = 0; i < PAGES; i += 2)
		fill(one + i * PAGE, PAGE, i);
	memset(one + PAGES * PAGE, 'x', 100);
	NEED(pwrite(open_only, one, PAGE, PAGE) == PAGE && lseek(open_only, 77, SEEK_SET) == 77);
	fill(mapped, 3 * PAGE, 300);
	fill(unlinked, PAGE, 400);
	ready();
	for (uint64_t round = 0; !check_wanted(); round++) {
		fill(one + 61 * PAGE, PAGE, round);
		expect_filled("page seen through the other mapping", two + 61 * PAGE, PAGE, round);
		pause_ms(1);
	}

	struct stat told;
	EXPECT(fstat(both, &told) == 0 && told.st_size == SIZE, "%ld bytes", told.st_size);
	EXPECT((told.st_mode & 07777) == 0640, "mode %o", told.st_mode);
	EXPECT(told.st_uid == 12 && told.st_gid == 34, "owner %u:%u", told.st_uid, told.st_gid);
	EXPECT(told.st_nlink == 1, "%lu names", told.st_nlink);
	expect_named(both, names[0]);
	expect_named(open_only, names[1]);
	expect_named(reading, names[1]);
	for (size_t i = 0; i < PAGES; i++) {
		if (i == 61)
			continue;
		if (i % 2)
			expect_zero("untouched page", two + i * PAGE, PAGE);
		else
			expect_filled("page", two + i * PAGE, PAGE, i);
	}
	EXPECT(two[PAGES * PAGE + 99] == 'x' && two[PAGES * PAGE + 100] == 0, "the end is another");
	EXPECT(lseek(open_only, 0, SEEK_CUR) == 77, "at %ld", lseek(open_only, 0, SEEK_CUR));
	char page[PAGE];
	EXPECT(pread(reading, page, PAGE, PAGE) == PAGE, "read: %m");
	expect_filled("what was written", page, PAGE, 0);
	int again = shm_open(names[2], O_RDWR, 0);
	EXPECT(again >= 0, "%s: %m", names[2]);
	mapped[5] = 'y';
	EXPECT(pread(again, page, PAGE, 0) == PAGE && page[5] == 'y', "%s is another file", names[2]);
	fill(mapped, PAGE, 300);
	expect_filled("the mapped one", mapped, 3 * PAGE, 300);
	expect_filled("the unlinked one", unlinked, PAGE, 400);
	EXPECT(shm_open(names[3], O_RDWR, 0) == -1 && errno == ENOENT, "the unlinked one has a name");
	EXPECT(!passed_the_semaphore, "nobody has posted the semaphore");
	sem_t *same = sem_open(names[4], 0);
	EXPECT(same != SEM_FAILED && sem_post(same) == 0, "post the semaphore: %m");
	EXPECT(pthread_join(waiter, NULL) == 0 && passed_the_semaphore, "the waiter");
	for (int i = 0; i < 3; i++)
		EXPECT(shm_unlink(names[i]) == 0, "unlink %s: %m", names[i]);
	EXPECT(sem_unlink(names[4]) == 0, "unlink %s: %m", names[4]);
	passed();
}
