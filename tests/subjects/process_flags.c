/* What prctl and personality set for a process: dumpable, subreaper, huge pages off, personality, keep-capabilities. */
#include "subject.h"
#include <sys/personality.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	NEED(personality(ADDR_NO_RANDOMIZE | SHORT_INODE) != -1);
	NEED(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	NEED(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	NEED(prctl(PR_SET_DUMPABLE, 0) == 0);
	NEED(prctl(PR_SET_KEEPCAPS, 1) == 0);
	NEED(prctl(PR_SET_TIMERSLACK, 1234567) == 0);
	ready();
	await_check();

	int subreaper = -1;
	EXPECT_OK(prctl(PR_GET_CHILD_SUBREAPER, &subreaper));
	EXPECT_EQ("personality", personality(0xffffffff), ADDR_NO_RANDOMIZE | SHORT_INODE);
	EXPECT_EQ("subreaper", subreaper, 1);
	EXPECT_EQ("huge pages off", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	EXPECT_EQ("dumpable", prctl(PR_GET_DUMPABLE), 0);
	EXPECT_EQ("keep capabilities", prctl(PR_GET_KEEPCAPS), 1);
	EXPECT_EQ("timer slack", prctl(PR_GET_TIMERSLACK), 1234567);
	passed();
}
