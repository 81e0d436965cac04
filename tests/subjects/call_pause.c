/* Moved inside pause: only a handled signal ends it. */
#include "call.h"

static struct answer call(void)
{
	return ANSWER(pause());
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	handle_usr1();
	block_until_check("pause", call, send_to_thread, (struct answer){ -1, EINTR });
	EXPECT_EQ("times the handler ran", handled_, 1);
	passed();
}
