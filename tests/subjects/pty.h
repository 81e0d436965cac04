/* Pseudo terminals with both ends here. */
#ifndef PTY_H
#define PTY_H
#include "subject.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static UNUSED int master_of(int flags)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | flags);

	NEED(master >= 0 && unlockpt(master) == 0);
	return master;
}

static UNUSED int number_of(int master)
{
	unsigned number = 0;

	EXPECT_OK(ioctl(master, TIOCGPTN, &number));
	return (int)number;
}

static UNUSED const char *slave_name(int number)
{
	static char name[64];

	snprintf(name, sizeof name, "/dev/pts/%d", number);
	return name;
}

static UNUSED int slave_of(int master, int flags)
{
	int slave = open(slave_name(number_of(master)), O_NOCTTY | flags);

	NEED(slave >= 0);
	return slave;
}

/* What is written at one end is read at the other. */
static UNUSED void expect_through(const char *what, int from, const char *text, int to, const char *expected)
{
	char got[256] = "";
	ssize_t length = (ssize_t)strlen(expected), at = 0, more;
	struct pollfd asked = { to, POLLIN, 0 };

	EXPECT(write(from, text, strlen(text)) == (ssize_t)strlen(text), "%s: write: %s", what, strerror(errno));
	while (at < length) {
		EXPECT(poll(&asked, 1, 10000) == 1, "%s: nothing comes after %s", what, got);
		more = read(to, got + at, sizeof got - 1 - at);
		EXPECT(more > 0, "%s: read: %s", what, strerror(errno));
		at += more;
	}
	EXPECT(at == length && memcmp(got, expected, length) == 0, "%s: expected %s, got %s", what, expected, got);
}

#endif
