/* Locked memory: mlock, mlock2 with ON_FAULT; VmLck and the mappings' flags are the same. */
#include "subject.h"

#define SIZE (16 * PAGE)

static long locked_kib(void)
{
	char text[8192] = "";
	const char *line;

	read_whole("/proc/self/status", text, sizeof text - 1);
	line = strstr(text, "VmLck:");
	return line ? atol(line + 6) : -1;
}

int main(int argc, char **argv)
{
	unsigned char resident[16];

	begin(argc, argv);
	char *all = map_anonymous(SIZE), *unlocked = map_anonymous(SIZE), *on_fault = map_anonymous(SIZE);
	NEED(mlock(all, SIZE) == 0);
	NEED(syscall(SYS_mlock2, on_fault, SIZE, MLOCK_ONFAULT) == 0);
	fill(all, SIZE, 1);
	fill(on_fault, 2 * PAGE, 2);
	fill(unlocked, SIZE, 3);
	long before = locked_kib();
	NEED(before == 2 * (long)SIZE / 1024);
	ready();
	await_check();

	EXPECT_EQ("VmLck in KiB", locked_kib(), before);
	EXPECT_OK(mincore(all, SIZE, resident));
	for (int i = 0; i < 16; i++)
		EXPECT(resident[i] & 1, "locked page %d is not resident", i);
	EXPECT_OK(mincore(on_fault, SIZE, resident));
	for (int i = 2; i < 16; i++)
		EXPECT(!(resident[i] & 1), "page %d, locked on fault and never touched, is resident", i);
	/* Locked pages cannot be dropped; those that only were touched can. */
	EXPECT(madvise(all, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL, "locked memory could be dropped");
	EXPECT(madvise(on_fault, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL, "memory locked on fault could be dropped");
	EXPECT_OK(madvise(unlocked, PAGE, MADV_DONTNEED));
	expect_filled("locked memory", all, SIZE, 1);
	expect_filled("memory locked on fault", on_fault, 2 * PAGE, 2);
	EXPECT_OK(munlock(all, SIZE));
	EXPECT_EQ("VmLck in KiB after munlock", locked_kib(), before / 2);
	passed();
}
