/* The main stack keeps its content and goes on growing downwards by itself. */
#include "subject.h"

static uint64_t __attribute__((noinline)) descend(int depth, uint64_t seed)
{
	uint64_t frame[PAGE / 8];

	fill(frame, PAGE, seed + depth);
	uint64_t below = depth > 0 ? descend(depth - 1, seed) : 0;
	expect_filled("stack frame", frame, PAGE, seed + depth);
	return below + frame[3];
}

static uint64_t expected(int depth, uint64_t seed)
{
	uint64_t sum = 0;

	for (int i = 0; i <= depth; i++)
		sum += pattern(seed + i, 3);
	return sum;
}

/* Moved in the middle: frames above and below are of before and after. */
static uint64_t __attribute__((noinline)) descend_and_wait(int depth)
{
	uint64_t frame[PAGE / 8];

	fill(frame, PAGE, 70000 + depth);
	uint64_t below;
	if (depth > 0) {
		below = descend_and_wait(depth - 1);
	} else {
		ready();
		await_check();
		below = descend(1000, 1);
		EXPECT(below == expected(1000, 1), "deep recursion: wrong sum");
	}
	expect_filled("stack frame of before", frame, PAGE, 70000 + depth);
	return below;
}

int main(int argc, char **argv)
{
	char text[8192], *line;
	int grows = 0;

	begin(argc, argv);
	descend_and_wait(20);
	/* The mapping still has the flag: "gd" in VmFlags. */
	FILE *smaps = fopen("/proc/self/smaps", "r");
	EXPECT(smaps != NULL, "open smaps: %s", strerror(errno));
	for (int in_stack = 0; (line = fgets(text, sizeof text, smaps)) != NULL;) {
		if (strstr(line, "[stack]"))
			in_stack = 1;
		if (in_stack && strncmp(line, "VmFlags:", 8) == 0) {
			grows = strstr(line, " gd") != NULL;
			break;
		}
	}
	EXPECT(grows, "the stack's mapping no longer grows down");
	passed();
}
