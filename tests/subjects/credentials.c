/* Root that became an ordinary user but kept some capabilities: IDs, groups, all five sets, securebits, no_new_privs. */
#include "subject.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>

#define KEPT (1ULL << CAP_NET_BIND_SERVICE | 1ULL << CAP_KILL | 1ULL << CAP_SYS_NICE)
#define INHERITED (1ULL << CAP_SYS_NICE)

static void set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){ (uint32_t)(effective >> 32 * i), (uint32_t)(permitted >> 32 * i),
							   (uint32_t)(inheritable >> 32 * i) };
	NEED(syscall(SYS_capset, &header, data) == 0);
}

/* The lines of status that say who this is. */
static void who(char *into, size_t room)
{
	static const char *const names[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:" };
	static char text[8192];

	memset(text, 0, sizeof text);
	read_whole("/proc/self/status", text, sizeof text - 1);
	into[0] = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *line = strstr(text, names[i]);

		EXPECT(line != NULL, "no %s in status", names[i]);
		snprintf(into + strlen(into), room - strlen(into), "%.*s; ", (int)strcspn(line, "\n"), line);
	}
}

int main(int argc, char **argv)
{
	gid_t groups[40];
	char before[2048], after[2048];

	begin(argc, argv);
	if (geteuid() != 0)
		skipped("to become another user takes root");
	NEED(chmod(subject_dir, 0777) == 0);
	for (int i = 0; i < 40; i++)
		groups[i] = 3000 + i * 7;
	NEED(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0) == 0 && prctl(PR_CAPBSET_DROP, CAP_AUDIT_WRITE, 0, 0, 0) == 0);
	NEED(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED) == 0);
	NEED(setgroups(40, groups) == 0 && setresgid(1001, 1002, 1003) == 0 && setresuid(1004, 1005, 1006) == 0);
	setfsuid(1005);
	setfsgid(1002);
	set_capabilities(1ULL << CAP_KILL, KEPT, INHERITED);
	NEED(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_NICE, 0, 0) == 0);
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(prctl(PR_SET_DUMPABLE, 0) == 0);
	/* What belongs to root in /proc of an undumpable process is root's. */
	who(before, sizeof before);
	int bits = prctl(PR_GET_SECUREBITS);
	ready();
	await_check();

	who(after, sizeof after);
	EXPECT(strcmp(before, after) == 0, "expected %s got %s", before, after);
	EXPECT_EQ("securebits", prctl(PR_GET_SECUREBITS), bits);
	EXPECT_EQ("dumpable", prctl(PR_GET_DUMPABLE), 0);
	EXPECT_EQ("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	EXPECT_EQ("ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_NICE, 0, 0), 1);
	struct stat status;
	int fd = open(path_of("mine"), O_CREAT | O_WRONLY, 0600);
	EXPECT(fd >= 0 && fstat(fd, &status) == 0, "open: %s", strerror(errno));
	EXPECT_EQ("owner of a new file", status.st_uid, 1005);
	EXPECT_EQ("group of a new file", status.st_gid, 1002);
	EXPECT(open("/proc/1/environ", O_RDONLY) == -1, "can read what only root may");
	passed();
}
