/* /dev/kmsg, the kernel's log: who reads it goes on with what is said after the move. */
#include "subject.h"

static void say(int fd, const char *text)
{
	char line[128];
	int length = snprintf(line, sizeof line, "<7>migrate: %s %d\n", text, getpid());

	EXPECT_EQ("written to the log", write(fd, line, length), length);
}

int main(int argc, char **argv)
{
	char record[8192], before[64], after[64];
	ssize_t length;
	int found = 0;

	begin(argc, argv);
	int reader = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), writer = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (reader < 0 || writer < 0)
		skipped("/dev/kmsg cannot be opened here");
	say(writer, "before the move");
	snprintf(before, sizeof before, "migrate: before the move %d", getpid());
	snprintf(after, sizeof after, "migrate: after the move %d", getpid());
	int flags[] = { fcntl(reader, F_GETFL), fcntl(writer, F_GETFL) };
	ready();
	await_check();

	EXPECT_EQ("flags of the reader", fcntl(reader, F_GETFL), flags[0]);
	EXPECT_EQ("flags of the writer", fcntl(writer, F_GETFL), flags[1]);
	EXPECT_EQ("close-on-exec", fcntl(writer, F_GETFD), FD_CLOEXEC);
	say(writer, "after the move");
	while ((length = read(reader, record, sizeof record - 1)) > 0 || (length < 0 && errno == EPIPE)) {
		if (length < 0)
			continue;
		record[length] = 0;
		EXPECT(!strstr(record, before), "it reads what was said before the move");
		found |= strstr(record, after) != NULL;
	}
	EXPECT(errno == EAGAIN, "read: %s", strerror(errno));
	EXPECT(found, "it does not read what was said after the move");
	passed();
}
