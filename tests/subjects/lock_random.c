/*
 * Random sets of locks: POSIX locks, of open file descriptions (OFD) and flock, on files that several descriptions and duplicates are of, for
 * reading, for writing and for both, in ranges that were merged and split. Which descriptor has which lock, and which byte is locked how,
 * is afterwards as it was. A second argument is the seed.
 */
#include "subject.h"
#include <sys/file.h>

#define FILES 3
#define FDS 15
#define STEPS 120
#define BYTES 250

static uint64_t seed, chance;
static int fds[FDS], modes[FDS], of[FDS];
static char shown_before[1 << 16], shown_after[1 << 16];
/* Of each byte, and in the last one of the whole file by flock: 0, F_RDLCK + 1, F_WRLCK + 1. */
static unsigned char (*locked)[BYTES + 1], locked_before[FILES][BYTES + 1];

static int lock(int fd, int command, int type, off_t start, off_t length)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };

	return fcntl(fd, command, &lock);
}

static void open_one(int i)
{
	static const int ways[] = { O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	char name[2] = { 0 };

	of[i] = (int)any(&chance, FILES);
	name[0] = (char)('a' + of[i]);
	modes[i] = ways[any(&chance, 4)];
	fds[i] = open(path_of(name), modes[i] | O_CLOEXEC);
	NEED(fds[i] >= 0);
}

/* Anything; what cannot be had is left. */
static void step(void)
{
	int i = (int)any(&chance, FDS), k = (int)any(&chance, FDS), type = any(&chance, 2) ? F_RDLCK : F_WRLCK;
	int command = any(&chance, 2) ? F_SETLK : F_OFD_SETLK;
	off_t start = (off_t)any(&chance, BYTES), length = any(&chance, 8) ? 1 + (off_t)any(&chance, 60) : 0;

	switch (any(&chance, 16)) {
	case 0:
		/* Closed, it takes all POSIX locks on its file with it. */
		close(fds[i]);
		open_one(i);
		break;
	case 1:
		if (i == k)
			return;
		NEED(dup2(fds[k], fds[i]) == fds[i]);
		modes[i] = modes[k], of[i] = of[k];
		break;
	case 2:
	case 3:
	case 4:
		if (flock(fds[i], (any(&chance, 3) ? LOCK_SH : any(&chance, 2) ? LOCK_EX : LOCK_UN) | LOCK_NB) != 0)
			NEED(errno == EWOULDBLOCK);
		break;
	case 5:
	case 6:
		NEED(lock(fds[i], command, F_UNLCK, start, length) == 0);
		break;
	default:
		if (lock(fds[i], command, type, start, length) != 0)
			NEED(errno == EAGAIN || (errno == EBADF && modes[i] != O_RDWR));
	}
}

static int by_text(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

/* What the kernel shows of each descriptor's locks, in a fixed order. How many there are is returned. */
static int show(char *into, size_t room)
{
	static char text[1 << 15], kept[1 << 16];
	char *lines[2000], path[64];
	int count = 0;
	size_t used = 0, length = 0;

	for (int i = 0; i < FDS; i++) {
		snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fds[i]);
		text[read_whole(path, text, sizeof text - 1)] = 0;
		for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
			if (strncmp(line, "lock:", 5) != 0)
				continue;
			lines[count++] = kept + used;
			/* Number, kind, advisory, mode, whose, file, range. Where the files are copied, they have other inodes. */
			char kind[16] = "", mode[16] = "", from[24] = "", to[24] = "";
			int whose = 0, words = sscanf(line, "lock: %*d: %15s %*s %15s %d %*s %23s %23s", kind, mode, &whose, from, to);
			EXPECT(words == 5, "not understood: %s", line);
			used += snprintf(kept + used, sizeof kept - used, "%d: %s %s %d %s %s\n", fds[i], kind, mode, whose, from, to) + 1;
			EXPECT(count < 2000 && used < sizeof kept, "too many locks: %d", count);
		}
	}
	qsort(lines, count, sizeof *lines, by_text);
	for (int i = 0; i < count; i++)
		length += snprintf(into + length, room - length, "%s", lines[i]);
	return count;
}

/* Asked by another process, which closes what it opens without any harm. */
static void look(void)
{
	pid_t child = fork();

	EXPECT(child >= 0, "fork: %s", strerror(errno));
	if (child == 0) {
		for (int file = 0; file < FILES; file++) {
			char name[2] = { (char)('a' + file) };
			int fd = open(path_of(name), O_RDWR);

			for (int at = 0; at < BYTES; at++) {
				struct flock asked = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

				if (fcntl(fd, F_OFD_GETLK, &asked) != 0)
					_exit(1);
				locked[file][at] = asked.l_type == F_UNLCK ? 0 : F_RDLCK + 1;
				asked = (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
				if (fcntl(fd, F_OFD_GETLK, &asked) != 0)
					_exit(1);
				if (asked.l_type != F_UNLCK)
					locked[file][at] = F_WRLCK + 1;
			}
			locked[file][BYTES] = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : flock(fd, LOCK_SH | LOCK_NB) == 0 ? F_RDLCK + 1 : F_WRLCK + 1;
		}
		_exit(0);
	}
	int status = -1;
	EXPECT(waitpid(child, &status, 0) == child && status == 0, "the one that looks: %d", status);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	chance = pattern(seed, 0) | 1;
	locked = mmap(NULL, FILES * sizeof *locked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(locked != MAP_FAILED);
	for (int i = 0; i < FILES; i++) {
		char name[2] = { (char)('a' + i) };

		close(make_file(name, 1, i));
	}
	for (int i = 0; i < FDS; i++)
		open_one(i);
	for (int i = 0; i < STEPS; i++)
		step();
	int count = show(shown_before, sizeof shown_before);
	look();
	memcpy(locked_before, locked, sizeof locked_before);
	ready();
	await_check();

	int now = show(shown_after, sizeof shown_after);
	EXPECT(strcmp(shown_before, shown_after) == 0, "seed %llu: %d locks, were %d: %.300s; were: %.300s", (unsigned long long)seed, now, count,
	       shown_after, shown_before);
	look();
	for (int file = 0; file < FILES; file++)
		for (int at = 0; at <= BYTES; at++)
			EXPECT(locked[file][at] == locked_before[file][at], "seed %llu: byte %d of file %d: locked %d, was %d",
			       (unsigned long long)seed, at, file, locked[file][at], locked_before[file][at]);
	/* Each gives up its own, and then there are none. */
	for (int i = 0; i < FDS; i++)
		EXPECT(lock(fds[i], F_SETLK, F_UNLCK, 0, 0) == 0 && lock(fds[i], F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && flock(fds[i], LOCK_UN) == 0,
		       "give up: %s", strerror(errno));
	look();
	for (int file = 0; file < FILES; file++)
		for (int at = 0; at <= BYTES; at++)
			EXPECT(locked[file][at] == 0, "seed %llu: byte %d of file %d is still locked", (unsigned long long)seed, at, file);
	passed();
}
