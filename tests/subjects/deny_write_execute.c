/* PR_SET_MDWE: no mapping becomes executable any more; what was both writable and executable before stays so. */
#include "subject.h"

#define SET_MDWE 65
#define GET_MDWE 66
#define REFUSE_EXEC_GAIN 1
#define NO_INHERIT 2

int main(int argc, char **argv)
{
	begin(argc, argv);
	unsigned char *both = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(both != MAP_FAILED);
	memcpy(both, "\xb8\x07\x00\x00\x00\xc3", 6); /* mov eax, 7; ret */
	unsigned char *data = map_anonymous(PAGE);
	*data = 0xc3;
	if (prctl(SET_MDWE, REFUSE_EXEC_GAIN | NO_INHERIT, 0, 0, 0) != 0)
		skipped("PR_SET_MDWE takes Linux 6.6");
	ready();
	await_check();

	EXPECT_EQ("flags", prctl(GET_MDWE, 0, 0, 0, 0), REFUSE_EXEC_GAIN | NO_INHERIT);
	EXPECT_EQ("code in memory that is both", ((int (*)(void))both)(), 7);
	both[1] = 9;
	EXPECT_EQ("code changed there", ((int (*)(void))both)(), 9);
	EXPECT(mprotect(data, PAGE, PROT_READ | PROT_EXEC) == -1 && errno == EACCES, "data became code");
	EXPECT(mmap(NULL, PAGE, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED,
	       "memory that is both was made");
	passed();
}
