/*
 * Descriptors that come and go all the time, while the process is looked at
 * and copied: files at all offsets, pipes with something in them, eventfds,
 * duplicates of each other. Each is looked at again and again for whether it is
 * still what it was made.
 */
#include "subject.h"
#include <sys/eventfd.h>

#define SLOTS 48
#define FILES 6

enum kind { NOTHING, REGULAR, PIPE, EVENTS, DUPLICATE };

static struct slot {
	enum kind kind;
	int fd, other;
	/* REGULAR: where it is; PIPE: the byte in it; EVENTS: its value; DUPLICATE: of which slot */
	long is;
	int file;
} slots[SLOTS];

static uint64_t chance = 1;
static ino_t inodes[FILES];

static void look(const struct slot *slot)
{
	struct stat status;
	uint64_t value;
	char byte;

	switch (slot->kind) {
	case REGULAR:
		EXPECT_EQ("offset", lseek(slot->fd, 0, SEEK_CUR), slot->is);
		EXPECT_OK(fstat(slot->fd, &status));
		EXPECT_EQ("inode", status.st_ino, inodes[slot->file]);
		break;
	case PIPE:
		EXPECT_EQ("bytes in a pipe", read(slot->fd, &byte, 1), 1);
		EXPECT_EQ("the byte", byte, slot->is);
		EXPECT_EQ("written back", write(slot->other, &byte, 1), 1);
		break;
	case EVENTS:
		EXPECT_EQ("an eventfd", read(slot->fd, &value, 8), 8);
		EXPECT_EQ("its value", value, slot->is);
		EXPECT_EQ("written back", write(slot->fd, &value, 8), 8);
		break;
	case DUPLICATE:
		EXPECT_EQ("offset of a duplicate", lseek(slot->fd, 0, SEEK_CUR), slots[slot->is].is);
		break;
	case NOTHING:
		break;
	}
}

static void let_go(struct slot *slot)
{
	/* A duplicate is nothing without the other one. */
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].kind == DUPLICATE && &slots[slots[i].is] == slot) {
			EXPECT_OK(close(slots[i].fd));
			slots[i].kind = NOTHING;
		}
	if (slot->kind != NOTHING)
		EXPECT_OK(close(slot->fd));
	if (slot->kind == PIPE)
		EXPECT_OK(close(slot->other));
	slot->kind = NOTHING;
}

static void change(struct slot *slot)
{
	int ends[2], of = any(&chance, SLOTS);
	char name[16], byte;

	let_go(slot);
	slot->kind = any(&chance, DUPLICATE + 1);
	switch (slot->kind) {
	case REGULAR:
		slot->file = any(&chance, FILES);
		slot->is = any(&chance, 100000);
		snprintf(name, sizeof name, "file%d", slot->file);
		slot->fd = open(path_of(name), O_RDONLY | (any(&chance, 2) ? O_CLOEXEC : 0));
		EXPECT(slot->fd >= 0, "open: %s", strerror(errno));
		EXPECT_EQ("seek", lseek(slot->fd, slot->is, SEEK_SET), slot->is);
		break;
	case PIPE:
		EXPECT_OK(pipe2(ends, any(&chance, 2) ? O_NONBLOCK : 0));
		slot->fd = ends[0], slot->other = ends[1];
		slot->is = byte = (char)any(&chance, 100);
		EXPECT_EQ("written", write(slot->other, &byte, 1), 1);
		break;
	case EVENTS:
		slot->is = 1 + any(&chance, 1000);
		slot->fd = eventfd(slot->is, 0);
		EXPECT(slot->fd >= 0, "eventfd: %s", strerror(errno));
		break;
	case DUPLICATE:
		slot->kind = NOTHING;
		if (slots[of].kind == REGULAR) {
			slot->is = of;
			slot->fd = fcntl(slots[of].fd, F_DUPFD, any(&chance, 300));
			EXPECT(slot->fd >= 0, "duplicate: %s", strerror(errno));
			slot->kind = DUPLICATE;
		}
		break;
	case NOTHING:
		break;
	}
}

int main(int argc, char **argv)
{
	struct stat status;
	char name[16];

	begin(argc, argv);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "file%d", i);
		int fd = make_file(name, 25, i);

		NEED(fstat(fd, &status) == 0 && close(fd) == 0);
		inodes[i] = status.st_ino;
	}
	for (int i = 0; i < SLOTS; i++)
		change(&slots[i]);
	ready();
	for (int turn = 0;; turn++) {
		for (int i = 0; i < SLOTS; i++)
			look(&slots[i]);
		if (check_wanted())
			passed();
		/* Mostly many at a time, now and then a rest. */
		for (int i = any(&chance, SLOTS); i > 0; i--)
			change(&slots[any(&chance, SLOTS)]);
		if (any(&chance, 20) == 0)
			pause_ms(any(&chance, 8));
	}
}
