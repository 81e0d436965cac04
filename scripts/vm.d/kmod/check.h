/* What the checks of the module share. */
#ifndef CHECK_H
#define CHECK_H
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "uapi/migrate.h"

#define EXPECT(what) ((what) ? (void)0 : wrong(__LINE__, #what))
#define FAILS_WITH(error, call) ((call) == -1 && errno == (error) ? (void)0 : wrong(__LINE__, #call " does not fail with " #error))

static int device;
static int failures;

static void wrong(int line, const char *what)
{
	printf("%s, line %d: %s (%s)\n", program_invocation_short_name, line, what, strerror(errno));
	failures++;
}

static void open_device(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	device = open("/dev/migrate", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		perror("/dev/migrate");
		exit(1);
	}
}

static int64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

#endif
