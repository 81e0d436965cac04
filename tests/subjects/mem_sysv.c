/*
 * Segments of System V shared memory: content, ID, key, creator, owner, permissions, SHM_LOCK, attachments (twice, read-only, with a part
 * protected otherwise, executable), and one that has been removed. They can be detached, attached and found by their keys again.
 */
#include "subject.h"
#include <sys/ipc.h>
#include <sys/shm.h>

#define PAGES 64UL
#define SIZE (PAGES * PAGE - 100)

static struct shmid_ds of(int id)
{
	struct shmid_ds told;

	EXPECT(shmctl(id, IPC_STAT, &told) == 0, "segment %d is gone", id);
	return told;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	/* A key of its own: subjects are run beside each other. */
	key_t key = 0x5e000000 | getpid();
	int others = setegid(2345) == 0 && seteuid(1234) == 0;
	int keyed = shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0640);
	if (keyed < 0 && errno == ENOSYS)
		skipped("the kernel has no System V shared memory");
	NEED(keyed >= 0);
	if (others)
		NEED(seteuid(0) == 0 && setegid(0) == 0);
	int gone = shmget(key + 0x1000000, PAGE, IPC_CREAT | IPC_EXCL | 0600);
	int private = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0606);
	NEED(gone >= 0 && private >= 0);
	char *one = shmat(keyed, NULL, 0), *two = shmat(keyed, NULL, SHM_RDONLY);
	char *removed = shmat(gone, NULL, 0), *own = shmat(private, NULL, SHM_EXEC);
	NEED(one != (void *)-1 && two != (void *)-1 && removed != (void *)-1 && own != (void *)-1);
	NEED(shmctl(gone, IPC_RMID, NULL) == 0);
	struct shmid_ds told = of(keyed);
	told.shm_perm.uid = 12;
	told.shm_perm.gid = 34;
	told.shm_perm.mode = 0604;
	NEED(shmctl(keyed, IPC_SET, &told) == 0);
	int locked = shmctl(private, SHM_LOCK, NULL) == 0;
	for (size_t i = 0; i < PAGES; i += 2)
		fill(one + i * PAGE, PAGE, i);
	fill(removed, PAGE, 100);
	fill(own, 3 * PAGE, 200);
	NEED(mprotect(one + 8 * PAGE, PAGE, PROT_READ) == 0);
	NEED(mprotect(own + PAGE, PAGE, PROT_NONE) == 0);
	ready();
	for (uint64_t round = 0; !check_wanted(); round++) {
		fill(one + 61 * PAGE, PAGE, round);
		expect_filled("page seen through the other attachment", two + 61 * PAGE, PAGE, round);
		pause_ms(1);
	}

	EXPECT(shmget(key, 0, 0) == keyed, "the key leads to another segment");
	EXPECT(shmget(key + 0x1000000, 0, 0) == -1 && errno == ENOENT, "the removed segment can be found");
	told = of(keyed);
	EXPECT(told.shm_segsz == SIZE, "%zu bytes", told.shm_segsz);
	EXPECT(told.shm_perm.uid == 12 && told.shm_perm.gid == 34, "owner %u:%u", told.shm_perm.uid, told.shm_perm.gid);
	EXPECT(!others || (told.shm_perm.cuid == 1234 && told.shm_perm.cgid == 2345), "made by %u:%u", told.shm_perm.cuid,
	       told.shm_perm.cgid);
	EXPECT(told.shm_perm.mode == 0604, "mode %o", told.shm_perm.mode);
	/* A part that is protected otherwise makes two mappings more. */
	EXPECT(told.shm_nattch == 4, "attached %lu times", told.shm_nattch);
	EXPECT(told.shm_cpid == getpid(), "made by %d", told.shm_cpid);
	told = of(private);
	EXPECT((told.shm_perm.mode & 0777) == 0606, "mode %o of the private one", told.shm_perm.mode);
	EXPECT(!(told.shm_perm.mode & SHM_LOCKED) == !locked, "mode %o of the locked one", told.shm_perm.mode);
	for (size_t i = 0; i < PAGES; i++) {
		if (i == 61)
			continue;
		if (i % 2)
			expect_zero("untouched page", two + i * PAGE, PAGE);
		else
			expect_filled("page", two + i * PAGE, PAGE, i);
	}
	expect_filled("the removed one", removed, PAGE, 100);
	expect_filled("the private one", own, PAGE, 200);
	EXPECT(!writable(two) && readable(two), "the second attachment is writable");
	EXPECT(!writable(one + 8 * PAGE) && writable(one + 9 * PAGE), "the protected page is writable, or another is not");
	EXPECT(!readable(own + PAGE), "the page without access is readable");
	EXPECT(mprotect(own + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0, "protect a page otherwise: %m");
	EXPECT(mprotect(two, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "it can be made writable");
	fill(one + 9 * PAGE, PAGE, 5000);
	expect_filled("page written through the other attachment", two + 9 * PAGE, PAGE, 5000);

	EXPECT(shmdt(one) == 0 && shmdt(two) == 0 && shmdt(own) == 0, "detach: %m");
	EXPECT(of(keyed).shm_nattch == 0, "still attached %lu times", of(keyed).shm_nattch);
	one = shmat(keyed, NULL, SHM_RDONLY);
	EXPECT(one != (void *)-1, "attach again: %m");
	expect_filled("page after it was attached again", one + 9 * PAGE, PAGE, 5000);
	EXPECT(shmctl(keyed, IPC_RMID, NULL) == 0 && shmctl(private, IPC_RMID, NULL) == 0, "remove: %m");
	EXPECT(shmdt(removed) == 0 && shmctl(gone, IPC_STAT, &told) == -1, "the removed one stays");
	passed();
}
