/*
 * Two areas of whole page tables that change places all the time, by mremap: the mappings look the same afterwards, no page has
 * been written, and no address holds what it held. A third one is given back and read, which leaves pages that hold nothing.
 */
#include "subject.h"

#define TABLE (512 * PAGE)
#define SIZE (4 * TABLE)

static volatile int stop;
static char *one, *two, *given_back, *aside;
static int swapped, filled = 1;

static char *aligned_area(void)
{
	char *at = map_anonymous(SIZE + TABLE), *start = (char *)(((uintptr_t)at + TABLE - 1) & ~(TABLE - 1));

	if (start > at)
		NEED(munmap(at, start - at) == 0);
	NEED(munmap(start + SIZE, at + TABLE - start) == 0);
	NEED(madvise(start, SIZE, MADV_NOHUGEPAGE) == 0);
	return start;
}

static void move_to(char *from, char *to)
{
	void *at = mremap(from, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	EXPECT(at == to, "mremap: %s", strerror(errno));
}

static void look(void)
{
	expect_filled("first area", one, SIZE, swapped ? 2000 : 1000);
	expect_filled("second area", two, SIZE, swapped ? 1000 : 2000);
	if (filled)
		expect_filled("area that is given back", given_back, SIZE, 3000);
	else
		expect_zero("area that was given back", given_back, SIZE);
}

static void *changer(void *unused)
{
	(void)unused;
	for (int round = 0; !stop; round++) {
		move_to(one, aside);
		move_to(two, one);
		move_to(aside, two);
		swapped = !swapped;
		if (round % 16 == 8)
			fill(given_back, SIZE, 3000);
		else if (round % 16 == 0)
			EXPECT_OK(madvise(given_back, SIZE, MADV_DONTNEED));
		filled = round % 16 >= 8;
		look();
		pause_ms(3);
		look();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	/* `aside` is there so that nothing else takes its place before the first round. */
	one = aligned_area(), two = aligned_area(), given_back = aligned_area(), aside = aligned_area();
	fill(one, SIZE, 1000);
	fill(two, SIZE, 2000);
	fill(given_back, SIZE, 3000);
	pthread_t thread = start_thread(changer, NULL);
	ready();
	await_check();
	pause_ms(50);
	stop = 1;
	pthread_join(thread, NULL);
	passed();
}
