/* Memory that is shared with a process whose first thread has ended: /proc shows nothing of it by its PID. */
#include "first_ended.h"

int main(int argc, char **argv)
{
	volatile char *memory;

	begin(argc, argv);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(memory != MAP_FAILED);
	leave_one_without_first();
	memory[0] = 1;
	ready();
	await_check();
	EXPECT_EQ("memory", memory[0], 1);
	passed();
}
