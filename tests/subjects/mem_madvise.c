/* Advice that stays with a mapping: VmFlags in smaps are the same before and after, and fork() heeds them. */
#include "subject.h"
#include <sys/wait.h>

#define SIZE (4 * PAGE)
#define HUGE (4UL << 20)

static const struct { int advice; const char *name; } advices[] = {
	{ MADV_DONTFORK, "DONTFORK" }, { MADV_WIPEONFORK, "WIPEONFORK" }, { MADV_DONTDUMP, "DONTDUMP" },
	{ MADV_HUGEPAGE, "HUGEPAGE" }, { MADV_NOHUGEPAGE, "NOHUGEPAGE" }, { MADV_SEQUENTIAL, "SEQUENTIAL" },
	{ MADV_RANDOM, "RANDOM" }, { MADV_MERGEABLE, "MERGEABLE" },
};
#define COUNT (sizeof advices / sizeof *advices)

/* The VmFlags of the mapping that starts at `at`, without soft-dirty, which says nothing about advice. */
static void read_flags(void *at, char *flags, size_t room)
{
	char line[8192], start[32];
	int inside = 0;
	FILE *smaps = fopen("/proc/self/smaps", "re");

	EXPECT(smaps != NULL, "open smaps: %s", strerror(errno));
	snprintf(start, sizeof start, "%lx-", (unsigned long)at);
	flags[0] = 0;
	while (fgets(line, sizeof line, smaps)) {
		if (strncmp(line, start, strlen(start)) == 0)
			inside = 1;
		if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			char *soft_dirty = strstr(line, " sd");

			if (soft_dirty)
				memmove(soft_dirty, soft_dirty + 3, strlen(soft_dirty + 3) + 1);
			snprintf(flags, room, "%s", line);
			break;
		}
	}
	fclose(smaps);
}

int main(int argc, char **argv)
{
	char *at[COUNT], before[COUNT][256], after[256];
	int applied[COUNT];

	begin(argc, argv);
	for (size_t i = 0; i < COUNT; i++) {
		/* A page of nothing on each side, so that mappings with the same flags do not merge. */
		char *area = mmap(NULL, HUGE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		NEED(area != MAP_FAILED);
		at[i] = area + PAGE;
		NEED(mprotect(at[i], SIZE, PROT_READ | PROT_WRITE) == 0);
		fill(at[i], SIZE, i);
		/* A kernel without huge pages or KSM refuses these. */
		applied[i] = madvise(at[i], SIZE, advices[i].advice) == 0;
		NEED(applied[i] || (errno == EINVAL && (i == 3 || i == 4 || i == 7)));
		read_flags(at[i], before[i], sizeof before[i]);
		NEED(before[i][0] != 0);
	}
	ready();
	await_check();

	for (size_t i = 0; i < COUNT; i++) {
		read_flags(at[i], after, sizeof after);
		EXPECT(strcmp(before[i], after) == 0, "%s: expected %sgot %s", advices[i].name, before[i], after);
		expect_filled(advices[i].name, at[i], SIZE, i);
	}
	pid_t child = fork();
	EXPECT(child >= 0, "fork: %s", strerror(errno));
	if (child == 0)
		_exit(readable(at[0]) || *(uint64_t *)at[1] != 0 || *(uint64_t *)at[2] != pattern(2, 0));
	int status = -1;
	EXPECT_OK(waitpid(child, &status, 0));
	EXPECT_EQ("status of a child that looks at the memory it got", status, 0);
	passed();
}
