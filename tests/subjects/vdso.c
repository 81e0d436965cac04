/* The vDSO is where it was and works; the clocks never go backwards. */
#include "subject.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/time.h>

static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE };
typedef int clock_gettime_function(clockid_t, struct timespec *);

/* The function in the vDSO itself: libc's falls back to a system call in silence. */
static clock_gettime_function *find_in_vdso(const char *name)
{
	const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *header = (const void *)base;
	const Elf64_Phdr *program = (const void *)(base + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	const char *strings = NULL;
	const Elf64_Sym *symbols = NULL;
	size_t count = 0;

	for (int i = 0; i < header->e_phnum; i++)
		if (program[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(base + program[i].p_offset);
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || dynamic == NULL)
		return NULL;
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		if (dynamic->d_tag == DT_STRTAB)
			strings = base + dynamic->d_un.d_ptr;
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const void *)(base + dynamic->d_un.d_ptr);
	}
	/* The symbol table ends where the strings begin. */
	if (strings && symbols)
		count = ((const char *)strings - (const char *)symbols) / sizeof *symbols;
	for (size_t i = 0; i < count; i++)
		if (strcmp(strings + symbols[i].st_name, name) == 0)
			return (clock_gettime_function *)(base + symbols[i].st_value);
	return NULL;
}

int main(int argc, char **argv)
{
	int64_t last[4] = { 0 }, now;

	begin(argc, argv);
	unsigned long base = getauxval(AT_SYSINFO_EHDR);
	clock_gettime_function *direct = find_in_vdso("__vdso_clock_gettime");
	NEED(base != 0 && direct != NULL);
	ready();
	while (!check_wanted())
		for (int i = 0; i < 4; i++) {
			struct timespec time;

			EXPECT_EQ("the vDSO's clock_gettime", direct(clocks[i], &time), 0);
			now = time.tv_sec * 1000000000LL + time.tv_nsec;
			EXPECT(now >= last[i], "clock %d went back by %lld ns", clocks[i], (long long)(last[i] - now));
			last[i] = now;
		}

	/* By the addresses that libc has kept. */
	struct timeval of_day;
	struct timespec real;
	unsigned cpu, node;
	time_t seconds = time(NULL);

	EXPECT_OK(gettimeofday(&of_day, NULL));
	EXPECT_OK(clock_gettime(CLOCK_REALTIME, &real));
	EXPECT(of_day.tv_sec >= seconds && of_day.tv_sec <= seconds + 1 && real.tv_sec >= of_day.tv_sec &&
		       real.tv_sec <= seconds + 1,
	       "time, gettimeofday and clock_gettime disagree: %lld, %lld, %lld", (long long)seconds,
	       (long long)of_day.tv_sec, (long long)real.tv_sec);
	EXPECT_OK(getcpu(&cpu, &node));
	cpu_set_t allowed;
	EXPECT_OK(sched_getaffinity(0, sizeof allowed, &allowed));
	EXPECT(CPU_ISSET(cpu, &allowed), "it runs on CPU %u, where it may not", cpu);
	EXPECT_OK(clock_getres(CLOCK_MONOTONIC, &real));

	EXPECT_EQ("AT_SYSINFO_EHDR", getauxval(AT_SYSINFO_EHDR), base);
	EXPECT(find_in_vdso("__vdso_clock_gettime") == direct, "the vDSO's code is another one");
	for (int i = 0; i < 3; i++) {
		struct timespec before, between, after;

		syscall(SYS_clock_gettime, clocks[i], &before);
		EXPECT_EQ("the vDSO's clock_gettime", direct(clocks[i], &between), 0);
		syscall(SYS_clock_gettime, clocks[i], &after);
		EXPECT(between.tv_sec * 1000000000LL + between.tv_nsec >= before.tv_sec * 1000000000LL + before.tv_nsec &&
			       between.tv_sec * 1000000000LL + between.tv_nsec <= after.tv_sec * 1000000000LL + after.tv_nsec,
		       "clock %d: the vDSO and the system call disagree", clocks[i]);
	}
	EXPECT(getauxval(AT_RANDOM) != 0 && readable((void *)getauxval(AT_RANDOM)), "AT_RANDOM is gone");
	passed();
}
