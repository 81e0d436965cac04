/* CLOCK_MONOTONIC and CLOCK_BOOTTIME go on at the pace of the wall clock, whatever the clocks of the host are. */
#include "subject.h"

static int64_t ahead_of_wall(clockid_t clock)
{
	int64_t wall = now_us(CLOCK_REALTIME);

	return now_us(clock) - wall;
}

int main(int argc, char **argv)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW };
	int64_t ahead[3];

	begin(argc, argv);
	for (int i = 0; i < 3; i++)
		ahead[i] = ahead_of_wall(clocks[i]);
	ready();
	while (!check_wanted())
		for (int i = 0; i < 3; i++) {
			int64_t jumped = ahead_of_wall(clocks[i]) - ahead[i];

			/* What a busy machine puts between reading the two clocks is no jump. */
			EXPECT(jumped < 2000000 && jumped > -2000000, "clock %d jumped by %lld us", clocks[i], (long long)jumped);
		}
	passed();
}
