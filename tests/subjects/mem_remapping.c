/* An address map that changes all the time: mappings come, move, grow, shrink and go while the process is copied. */
#include "subject.h"

static volatile int stop;

/* Short: whoever registers or copies a mapping by bounds that he has read must meet others there. */
static void pause_shortly(void)
{
	usleep(50);
}

static void *remapper(void *seed_of)
{
	uint64_t seed = (uintptr_t)seed_of;

	while (!stop) {
		size_t pages = 8 + seed % 57;
		char *at = map_anonymous(pages * PAGE);

		fill(at, pages * PAGE, seed);
		at = mremap(at, pages * PAGE, 2 * pages * PAGE, MREMAP_MAYMOVE);
		EXPECT(at != MAP_FAILED, "mremap: %s", strerror(errno));
		expect_filled("page after growing", at, pages * PAGE, seed);
		expect_zero("page that growing added", at + pages * PAGE, pages * PAGE);
		pause_shortly();
		expect_filled("page after a pause", at, pages * PAGE, seed);
		EXPECT_OK(mprotect(at + PAGE, PAGE, PROT_READ));
		EXPECT_OK(munmap(at + 3 * PAGE, PAGE));
		pause_shortly();
		expect_filled("page before the hole", at, 3 * PAGE, seed);
		EXPECT_OK(munmap(at, 2 * pages * PAGE));
		seed += 1000003;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_t one = start_thread(remapper, (void *)1), two = start_thread(remapper, (void *)2);
	ready();
	await_check();
	pause_ms(50);
	stop = 1;
	pthread_join(one, NULL);
	pthread_join(two, NULL);
	passed();
}
