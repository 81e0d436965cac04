/*
 * Descriptors that stay open, and what is told of them changes all the time:
 * offset, flags, close-on-exec, record lock, a duplicate with a close-on-exec
 * of its own; and now and then the number comes to mean another description of
 * the same file. Each is looked at again and again for whether it is still what
 * it was made. So many that more than one thread may have to look at them.
 */
#include "subject.h"

#define SLOTS 160
#define SETTABLE (O_APPEND | O_NONBLOCK)

static struct slot {
	ino_t inode;
	int fd, flags, close_on_exec;
	long offset;
	/* F_UNLCK: none */
	int lock;
	long start, length;
	/* -1: none */
	int duplicate, duplicate_close_on_exec;
} slots[SLOTS];

static uint64_t chance = 1;

static const char *name_of(const struct slot *slot)
{
	static char name[16];

	snprintf(name, sizeof name, "file%d", (int)(slot - slots));
	return name;
}

/* Asked as an owner of another kind, to whom the process's own locks are in the way. */
static struct flock other_lock(const struct slot *slot, long start, long length)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = start, .l_len = length };

	EXPECT_OK(fcntl(slot->fd, F_OFD_GETLK, &lock));
	return lock;
}

static void look_at_lock(const struct slot *slot)
{
	struct flock lock = other_lock(slot, 0, 0);

	EXPECT_EQ("lock", lock.l_type, slot->lock);
	if (slot->lock == F_UNLCK)
		return;
	EXPECT_EQ("start of a lock", lock.l_start, slot->start);
	EXPECT_EQ("length of a lock", lock.l_len, slot->length);
	EXPECT_EQ("another lock", other_lock(slot, slot->start + slot->length, 0).l_type, F_UNLCK);
}

static void look(const struct slot *slot)
{
	struct stat status;

	EXPECT_EQ("offset", lseek(slot->fd, 0, SEEK_CUR), slot->offset);
	EXPECT_EQ("flags", fcntl(slot->fd, F_GETFL) & SETTABLE, slot->flags);
	EXPECT_EQ("close-on-exec", fcntl(slot->fd, F_GETFD), slot->close_on_exec);
	EXPECT_OK(fstat(slot->fd, &status));
	EXPECT_EQ("inode", status.st_ino, slot->inode);
	if (slot->duplicate >= 0) {
		EXPECT_EQ("offset of a duplicate", lseek(slot->duplicate, 0, SEEK_CUR), slot->offset);
		EXPECT_EQ("its close-on-exec", fcntl(slot->duplicate, F_GETFD), slot->duplicate_close_on_exec);
	}
	look_at_lock(slot);
}

static void replace(struct slot *slot)
{
	int other = open(path_of(name_of(slot)), O_RDWR | O_CLOEXEC);

	EXPECT(other >= 0, "open: %s", strerror(errno));
	EXPECT_OK(dup2(other, slot->fd));
	EXPECT_OK(close(other));
	slot->flags = slot->close_on_exec = 0;
	slot->offset = 0;
	/* Closing any descriptor of a file gives up the locks. */
	slot->lock = F_UNLCK;
	if (slot->duplicate >= 0)
		EXPECT_OK(close(slot->duplicate));
	slot->duplicate = -1;
}

static void lock(struct slot *slot)
{
	struct flock lock = { .l_type = F_UNLCK };

	/* Else two could become one, or one two. */
	EXPECT_OK(fcntl(slot->fd, F_SETLK, &lock));
	slot->lock = any(&chance, 2) ? F_UNLCK : any(&chance, 2) ? F_WRLCK : F_RDLCK;
	slot->start = any(&chance, 1000);
	slot->length = 1 + any(&chance, 1000);
	if (slot->lock == F_UNLCK)
		return;
	lock = (struct flock){ .l_type = (short)slot->lock, .l_start = slot->start, .l_len = slot->length };
	EXPECT_OK(fcntl(slot->fd, F_SETLK, &lock));
}

static void change(struct slot *slot)
{
	switch (any(&chance, 6)) {
	case 0:
		slot->offset = any(&chance, 100000);
		EXPECT_EQ("seek", lseek(slot->fd, slot->offset, SEEK_SET), slot->offset);
		break;
	case 1:
		slot->flags = (any(&chance, 2) ? O_APPEND : 0) | (any(&chance, 2) ? O_NONBLOCK : 0);
		EXPECT_OK(fcntl(slot->fd, F_SETFL, slot->flags));
		break;
	case 2:
		slot->close_on_exec = (int)any(&chance, 2);
		EXPECT_OK(fcntl(slot->fd, F_SETFD, slot->close_on_exec));
		break;
	case 3:
		lock(slot);
		break;
	case 4:
		replace(slot);
		break;
	case 5:
		if (slot->duplicate < 0) {
			slot->duplicate = fcntl(slot->fd, F_DUPFD, any(&chance, 1000));
			EXPECT(slot->duplicate >= 0, "duplicate: %s", strerror(errno));
		}
		slot->duplicate_close_on_exec = (int)any(&chance, 2);
		EXPECT_OK(fcntl(slot->duplicate, F_SETFD, slot->duplicate_close_on_exec));
		break;
	}
}

int main(int argc, char **argv)
{
	struct stat status;

	begin(argc, argv);
	for (int i = 0; i < SLOTS; i++) {
		slots[i] = (struct slot){ .lock = F_UNLCK, .duplicate = -1 };
		slots[i].fd = open(path_of(name_of(&slots[i])), O_RDWR | O_CREAT | O_EXCL, 0600);
		NEED(slots[i].fd >= 0 && fstat(slots[i].fd, &status) == 0);
		slots[i].inode = status.st_ino;
	}
	ready();
	for (;;) {
		for (int i = 0; i < SLOTS; i++)
			look(&slots[i]);
		if (check_wanted())
			passed();
		/* Mostly few at a time, now and then many, or a rest. */
		for (unsigned int i = any(&chance, 10) ? any(&chance, 6) : any(&chance, SLOTS); i > 0; i--)
			change(&slots[any(&chance, SLOTS)]);
		if (any(&chance, 20) == 0)
			pause_ms(any(&chance, 8));
	}
}
