/* RLIMIT_CPU: what was used before the move is not had again after it. Where CPU time begins at 0, the limit is less by that. */
#include "subject.h"
#include <sys/resource.h>

#define SOFT 4
#define HARD 20
/* Of the process, as ticks find it: by this the limit goes. */
#define CPU_TICKS ((clockid_t)-8)

static volatile int told;

static void on_limit(int signal)
{
	(void)signal;
	told++;
}

static void burn_until(int64_t us)
{
	while (!told && now_us(CPU_TICKS) < us)
		;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_limit };
	struct rlimit limit = { SOFT, HARD };

	begin(argc, argv);
	NEED(sigaction(SIGXCPU, &action, NULL) == 0 && setrlimit(RLIMIT_CPU, &limit) == 0);
	burn_until(1500000);
	int64_t before = now_us(CPU_TICKS);
	ready();
	await_check();

	EXPECT_EQ("SIGXCPU", told, 0);
	EXPECT_OK(getrlimit(RLIMIT_CPU, &limit));
	int goes_on = now_us(CPU_TICKS) >= before;
	if (goes_on)
		EXPECT(limit.rlim_cur == SOFT && limit.rlim_max == HARD, "it goes on, and the limits are %llu and %llu",
		       (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	else
		EXPECT(limit.rlim_cur < SOFT && limit.rlim_max < HARD && limit.rlim_max >= limit.rlim_cur + HARD - SOFT, "the limits are %llu and %llu",
		       (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	burn_until(30000000);
	int64_t all = (goes_on ? 0 : before) + now_us(CPU_TICKS);
	EXPECT_EQ("SIGXCPU", told, 1);
	/* The kernel looks at it from tick to tick. */
	EXPECT(all < SOFT * 1000000 + 300000, "SIGXCPU came after %lld us of %d s", (long long)all, SOFT);
	passed();
}
