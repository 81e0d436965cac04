/*
 * A random graph of unix sockets: pairs of each sort, ends that are closed, messages with files and with ends of other pairs in
 * flight, some of which are nowhere else. What each end is to receive is remembered; whoever is received is looked into in its turn.
 */
#include "unix.h"

#define PAIRS 40
#define ENDS (2 * PAIRS)
#define FILES 6
#define DEPTH 8

struct message { size_t length; uint64_t seed; int count, what[4]; };

/* What is in flight: a file by its number, or an end behind those. */
struct end {
	int fd, type, closed, with_descriptors, looked_into;
	struct message queue[DEPTH];
	int waiting;
};

static struct end ends[ENDS];
static int files[FILES];
static uint64_t chance;

static struct end *other(struct end *end)
{
	return &ends[(end - ends) ^ 1];
}

/* Whether all that is in flight could still be received, were this one closed. The kernel closes what nobody can receive any more, whenever
 * it looks: see unix_unreachable. */
static int reachable_without(const struct end *closing)
{
	char reached[ENDS] = { 0 };
	int more = 1;

	for (int k = 0; k < ENDS; k++)
		reached[k] = ends[k].fd >= 0 && &ends[k] != closing;
	while (more) {
		more = 0;
		for (int k = 0; k < ENDS; k++)
			for (int m = 0; reached[k] && m < ends[k].waiting; m++)
				for (int n = 0; n < ends[k].queue[m].count; n++) {
					int what = ends[k].queue[m].what[n] - FILES;

					if (what >= 0 && !reached[what])
						reached[what] = more = 1;
				}
	}
	for (int k = 0; k < ENDS; k++)
		if (!reached[k] && !ends[k].closed)
			return 0;
	return 1;
}

static void put_bytes(char *into, const struct message *message)
{
	for (size_t i = 0; i < message->length; i++)
		into[i] = (char)pattern(message->seed, i);
}

static void send_one(struct end *from)
{
	static char bytes[8192];
	struct end *to = other(from);
	struct message *message = &to->queue[to->waiting];
	int fds[4];

	if (from->fd < 0 || to->closed || to->waiting == DEPTH)
		return;
	*message = (struct message){ .length = any(&chance, any(&chance, 4) ? 60 : sizeof bytes), .seed = any(&chance, 1 << 30) };
	/* Where a stream's descriptors begin cannot be told when something without any was sent before. */
	if (to->type != SOCK_STREAM || to->with_descriptors)
		message->count = (to->type == SOCK_STREAM) + any(&chance, 3);
	message->length += to->type == SOCK_STREAM;
	for (int i = 0; i < message->count; i++) {
		struct end *end = &ends[any(&chance, ENDS)];

		message->what[i] = any(&chance, 3) && end->fd >= 0 ? FILES + (int)(end - ends) : (int)any(&chance, FILES);
		fds[i] = message->what[i] < FILES ? files[message->what[i]] : ends[message->what[i] - FILES].fd;
	}
	put_bytes(bytes, message);
	NEED(send_with(from->fd, bytes, message->length, fds, message->count, NULL) == (ssize_t)message->length);
	to->waiting++;
}

/* Is this what was in flight? An end that is nowhere else is found again by it. */
static void receive_descriptor(int what, int fd)
{
	char got = 0;
	struct stat here, there;

	if (what < FILES) {
		EXPECT(pread(fd, &got, 1, 0) == 1 && got == 'a' + what, "file %c came as %c", 'a' + what, got);
		close(fd);
	} else if (ends[what - FILES].fd < 0) {
		ends[what - FILES].fd = fd;
	} else {
		EXPECT(fstat(fd, &here) == 0 && fstat(ends[what - FILES].fd, &there) == 0 && here.st_ino == there.st_ino,
		       "end %d came as another one", what - FILES);
		close(fd);
	}
}

static void look_into(struct end *end)
{
	static char bytes[DEPTH * 8192], expected[DEPTH * 8192];
	int number = (int)(end - ends);
	size_t length = 0;

	end->looked_into = 1;
	if (end->type == SOCK_STREAM && !end->with_descriptors) {
		for (int i = 0; i < end->waiting; i++) {
			put_bytes(expected + length, &end->queue[i]);
			length += end->queue[i].length;
		}
		for (size_t done = 0; done < length;) {
			ssize_t part = recv(end->fd, bytes + done, length - done, MSG_DONTWAIT);

			EXPECT(part > 0, "end %d: after %zu of %zu bytes: %s", number, done, length, strerror(errno));
			done += part;
		}
		EXPECT(memcmp(bytes, expected, length) == 0, "end %d: its bytes are others", number);
	} else {
		for (int i = 0; i < end->waiting; i++) {
			struct message *message = &end->queue[i];
			struct received got = receive(end->fd, bytes, sizeof bytes, 0);

			put_bytes(expected, message);
			EXPECT(got.length == (ssize_t)message->length, "end %d, message %d: %zd of %zu bytes: %s", number, i, got.length,
			       message->length, strerror(got.error));
			EXPECT(memcmp(bytes, expected, message->length) == 0, "end %d, message %d: its bytes are others", number, i);
			EXPECT(got.count == message->count, "end %d, message %d: %d of %d descriptors", number, i, got.count,
			       message->count);
			for (int k = 0; k < got.count; k++)
				receive_descriptor(message->what[k], got.fds[k]);
		}
	}
	ssize_t more = recv(end->fd, bytes, 1, MSG_DONTWAIT);
	if (other(end)->closed && end->type != SOCK_DGRAM)
		EXPECT(more == 0, "end %d: expected the end, got %zd (%s)", number, more, strerror(errno));
	else
		EXPECT(more == -1 && errno == EAGAIN, "end %d: expected nothing more, got %zd (%s)", number, more, strerror(errno));
}

int main(int argc, char **argv)
{
	static const int types[3] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	int looked_into = 0, again = 1;

	begin(argc, argv);
	chance = pattern(seed, 0) | 1;
	for (int i = 0; i < FILES; i++) {
		char name[2] = { (char)('a' + i) };

		files[i] = open(path_of(name), O_CREAT | O_RDWR | O_TRUNC, 0600);
		NEED(files[i] >= 0 && write(files[i], name, 1) == 1);
	}
	for (int i = 0; i < PAIRS; i++) {
		int pair[2], type = types[any(&chance, 3)];

		NEED(socketpair(AF_UNIX, type, 0, pair) == 0);
		for (int k = 0; k < 2; k++)
			ends[2 * i + k] = (struct end){ .fd = pair[k], .type = type, .with_descriptors = any(&chance, 2) };
	}
	for (int i = 0; i < 5 * PAIRS; i++) {
		struct end *end = &ends[any(&chance, ENDS)];

		send_one(end);
		/* Nowhere but in flight, or nowhere at all. What a stream that is gone sent with descriptors nobody can weigh. */
		if (any(&chance, 12) == 0 && end->fd >= 0 && !(end->type == SOCK_STREAM && other(end)->with_descriptors)) {
			int flies = 0;

			for (int k = 0; k < ENDS; k++)
				for (int m = 0; m < ends[k].waiting; m++)
					for (int n = 0; n < ends[k].queue[m].count; n++)
						flies |= ends[k].queue[m].what[n] == FILES + (int)(end - ends);
			if (flies ? reachable_without(end) : end->waiting == 0) {
				close(end->fd);
				end->fd = -1;
				end->closed = !flies;
			}
		}
	}
	ready();
	await_check();

	while (again) {
		again = 0;
		for (int i = 0; i < ENDS; i++)
			if (ends[i].fd >= 0 && !ends[i].looked_into) {
				look_into(&ends[i]);
				looked_into++, again = 1;
			}
	}
	EXPECT(looked_into > ENDS / 2, "only %d of %d ends were found", looked_into, ENDS);
	for (int i = 0; i < ENDS; i += 2)
		if (ends[i].fd >= 0 && ends[i + 1].fd >= 0)
			expect_connected("a pair", ends[i].fd, ends[i + 1].fd);
	passed();
}
