/* A memfd of huge pages: its content cannot travel. */
#include "subject.h"
#include <linux/memfd.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (memfd_create("huge", MFD_HUGETLB) < 0)
		skipped("this kernel has no hugetlbfs");
	ready();
	await_check();
	passed();
}
