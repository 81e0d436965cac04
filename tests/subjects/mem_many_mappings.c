/* A thousand small mappings of changing protection, none of which may merge with the next. */
#include "subject.h"

#define COUNT 1000

int main(int argc, char **argv)
{
	static const int protections[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE };
	char *at[COUNT];

	begin(argc, argv);
	char *area = map_anonymous(COUNT * 2 * PAGE);
	for (int i = 0; i < COUNT; i++) {
		at[i] = area + i * 2 * PAGE;
		fill(at[i], 2 * PAGE, i);
		NEED(mprotect(at[i], 2 * PAGE, protections[i % 3]) == 0);
		if (i % 10 == 9)
			NEED(munmap(at[i], PAGE) == 0);
	}
	ready();
	await_check();

	for (int i = 0; i < COUNT; i++) {
		char *second = at[i] + PAGE;

		EXPECT(readable(second) == (i % 3 != 2), "mapping %d: wrong protection", i);
		EXPECT(writable(second) == (i % 3 == 0), "mapping %d: wrong protection", i);
		if (i % 3 == 0)
			*second = (char)pattern(i, PAGE / 8);
		EXPECT_OK(mprotect(second, PAGE, PROT_READ));
		for (size_t word = 0; word < PAGE / 8; word++)
			EXPECT(((uint64_t *)second)[word] == pattern(i, PAGE / 8 + word), "mapping %d: wrong content", i);
		EXPECT(readable(at[i]) == (i % 10 != 9 && i % 3 != 2), "mapping %d: a hole was closed or opened", i);
	}
	passed();
}
