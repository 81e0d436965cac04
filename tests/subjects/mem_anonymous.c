/* Anonymous memory: full, sparse, dropped again; what was never touched takes no memory afterwards either. */
#include "subject.h"

#define FULL (16UL << 20)
#define SPARSE (1UL << 30)

static long resident_pages(void)
{
	char text[256] = "";
	long size, resident = -1;

	read_whole("/proc/self/statm", text, sizeof text - 1);
	sscanf(text, "%ld %ld", &size, &resident);
	return resident;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *full = map_anonymous(FULL);
	char *sparse = mmap(NULL, SPARSE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	NEED(sparse != MAP_FAILED);
	size_t touched[] = { 0, 1, 1000, 77777, SPARSE / PAGE - 1 };

	for (size_t i = 0; i < FULL / PAGE; i++)
		fill(full + i * PAGE, PAGE, i);
	for (size_t i = 0; i < 5; i++)
		fill(sparse + touched[i] * PAGE, PAGE, touched[i]);
	/* Given back to the kernel: zero from now on. */
	NEED(madvise(full + FULL / 2, FULL / 4, MADV_DONTNEED) == 0);
	long resident = resident_pages();
	ready();
	await_check();

	EXPECT(resident_pages() <= resident + 512, "resident pages: had %ld, got %ld", resident, resident_pages());
	for (size_t i = 0; i < FULL / PAGE; i++)
		if (i * PAGE >= FULL / 2 && i * PAGE < FULL / 2 + FULL / 4)
			expect_zero("dropped page", full + i * PAGE, PAGE);
		else
			expect_filled("full page", full + i * PAGE, PAGE, i);
	for (size_t i = 0; i < 5; i++)
		expect_filled("sparse page", sparse + touched[i] * PAGE, PAGE, touched[i]);
	for (size_t page = 2; page < SPARSE / PAGE - 1; page += 997)
		if (page != 1000 && page != 77777)
			expect_zero("untouched page", sparse + page * PAGE, PAGE);
	fill(sparse + 5 * PAGE, PAGE, 5);
	expect_filled("page written after", sparse + 5 * PAGE, PAGE, 5);
	passed();
}
