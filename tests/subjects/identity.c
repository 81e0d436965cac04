/* What /proc shows of a process: its program, name, arguments (also rewritten, as daemons do), environment. */
#include "subject.h"

static char exe[PATH_MAX], after_exe[PATH_MAX];
static char environment[1 << 17], auxv[4096], after[1 << 17];
extern char **environ;

int main(int argc, char **argv)
{
	static const char title[] = "identity: moved [rewritten]";

	begin(argc, argv);
	/* All that argv has, as setproctitle() takes it. */
	size_t room = 0;
	for (int i = 0; i < argc; i++)
		room += strlen(argv[i]) + 1;
	NEED(room > sizeof title);
	memset(argv[0], 0, room);
	memcpy(argv[0], title, sizeof title);
	NEED(prctl(PR_SET_NAME, "a (b) c\n\\d") == 0);
	NEED(setenv("SUBJECT", "this stays in memory, not in /proc", 1) == 0);

	NEED(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
	size_t environment_length = read_whole("/proc/self/environ", environment, sizeof environment);
	size_t auxv_length = read_whole("/proc/self/auxv", auxv, sizeof auxv);
	NEED(environment_length > 0 && auxv_length > 0);
	ready();
	await_check();

	char name[16];
	size_t length = read_whole("/proc/self/cmdline", after, sizeof after);
	EXPECT(length >= sizeof title && memcmp(after, title, sizeof title) == 0, "arguments: expected \"%s\", got \"%s\"",
	       title, after);
	EXPECT_EQ("length of the environment", read_whole("/proc/self/environ", after, sizeof after), environment_length);
	EXPECT(memcmp(after, environment, environment_length) == 0, "the environment in /proc changed");
	EXPECT_EQ("length of the auxiliary vector", read_whole("/proc/self/auxv", after, sizeof after), auxv_length);
	EXPECT(memcmp(after, auxv, auxv_length) == 0, "the auxiliary vector in /proc changed");
	EXPECT(readlink("/proc/self/exe", after_exe, sizeof after_exe - 1) > 0, "readlink exe: %s", strerror(errno));
	EXPECT(strcmp(exe, after_exe) == 0, "program: expected %s, got %s", exe, after_exe);
	EXPECT_OK(prctl(PR_GET_NAME, name));
	EXPECT(strcmp(name, "a (b) c\n\\d") == 0, "name: got %s", name);
	EXPECT(strcmp(getenv("SUBJECT"), "this stays in memory, not in /proc") == 0, "getenv: got %s", getenv("SUBJECT"));
	/* The program can be opened through the link, so it is the file and not only its name. */
	int self = open("/proc/self/exe", O_RDONLY);
	EXPECT(self >= 0, "open /proc/self/exe: %s", strerror(errno));
	passed();
}
