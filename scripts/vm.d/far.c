/*
 * far serve              runs what comes over a connection, with /bin/sh
 * far ADDRESS COMMAND    has it run there; prints what it prints, and ends as it ends (255: no answer). What is in its standard
 *                        input goes to the command, if that is a pipe.
 * far clock-serve        tells the time to whoever asks
 * far clock-set ADDRESS  sets this host's clock by that one's
 *
 * In the guests: a shell with nc and sed makes ten processes for one command, which takes too long on an emulated CPU.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT 7000
#define ANSWERS 200
#define TRIES 1000

static struct sockaddr_in address(const char *text)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	if (inet_pton(AF_INET, text, &to.sin_addr) != 1)
		exit(255);
	return to;
}

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int put(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length > 0) {
		ssize_t done = write(fd, at, length);

		if (done <= 0)
			return 0;
		at += done;
		length -= done;
	}
	return 1;
}

/* The command and a zero byte, then its input, come in; its output and the byte of its exit status go out. */
static void serve_one(int fd)
{
	char command[16384];
	size_t length = 0;
	unsigned char answer;
	int status;
	pid_t child;

	do {
		if (length == sizeof command || read(fd, command + length, 1) != 1)
			_exit(1);
	} while (command[length++] != 0);
	signal(SIGCHLD, SIG_DFL);
	child = fork();
	if (child == 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		close(fd);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	answer = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	put(fd, &answer, 1);
	/* What the command has left running may hold the connection. */
	shutdown(fd, SHUT_RDWR);
	_exit(0);
}

static int serve(void)
{
	struct sockaddr_in at = address("0.0.0.0");
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	signal(SIGCHLD, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 64) != 0)
		return 1;
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0 && fork() == 0)
			serve_one(fd);
		close(fd);
	}
}

static int run(const char *where, const char *command)
{
	struct sockaddr_in to = address(where);
	int one = 1, input = -1, status = -1, fd = socket(AF_INET, SOCK_STREAM, 0);
	struct stat what;
	char bytes[65536];

	signal(SIGPIPE, SIG_IGN);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 || !put(fd, command, strlen(command) + 1))
		return 255;
	if (fstat(0, &what) == 0 && S_ISFIFO(what.st_mode))
		input = 0;
	else
		shutdown(fd, SHUT_WR);
	for (;;) {
		struct pollfd polled[2] = { { fd, POLLIN, 0 }, { input, POLLIN, 0 } };
		ssize_t got;

		if (poll(polled, 2, -1) < 0)
			return 255;
		if (polled[1].revents != 0) {
			got = read(input, bytes, sizeof bytes);
			if (got <= 0 || !put(fd, bytes, got)) {
				input = -1;
				shutdown(fd, SHUT_WR);
			}
		}
		if (polled[0].revents == 0)
			continue;
		got = read(fd, bytes, sizeof bytes);
		if (got <= 0)
			return status < 0 ? 255 : status;
		/* The last byte of all is the status. */
		if (status >= 0) {
			unsigned char before = status;

			put(1, &before, 1);
		}
		status = (unsigned char)bytes[got - 1];
		put(1, bytes, got - 1);
	}
}

static int clock_serve(void)
{
	struct sockaddr_in at = address("0.0.0.0"), from;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
		return 1;
	for (;;) {
		socklen_t length = sizeof from;
		int64_t time;

		if (recvfrom(fd, &time, sizeof time, 0, (struct sockaddr *)&from, &length) > 0) {
			time = now();
			sendto(fd, &time, sizeof time, 0, (struct sockaddr *)&from, length);
		}
	}
}

/* The answer that came soonest tells best. */
static int clock_set(const char *where)
{
	struct sockaddr_in to = address(where);
	int64_t best = INT64_MAX, ahead = 0, time;
	struct timeval patience = { 0, 100000 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
		return 1;
	for (int answers = 0, tries = 0; answers < ANSWERS && tries < TRIES; tries++) {
		int64_t sent = now(), took;

		if (send(fd, &sent, sizeof sent, 0) < 0 || recv(fd, &time, sizeof time, 0) != sizeof time) {
			usleep(50000);
			continue;
		}
		answers++;
		took = now() - sent;
		if (took < best) {
			best = took;
			ahead = time - (sent + took / 2);
		}
	}
	time = now() + ahead;
	return best == INT64_MAX || clock_settime(CLOCK_REALTIME, &(struct timespec){ time / 1000000000, time % 1000000000 }) != 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		return serve();
	if (argc == 2 && strcmp(argv[1], "clock-serve") == 0)
		return clock_serve();
	if (argc == 3 && strcmp(argv[1], "clock-set") == 0)
		return clock_set(argv[2]);
	return argc == 3 ? run(argv[1], argv[2]) : 255;
}
