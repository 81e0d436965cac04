/* Moved inside pselect with a mask of its own, until a handled signal that only this mask lets through. */
#include "call.h"
#include <sys/select.h>

static struct answer call(void)
{
	sigset_t blocked = only(SIGUSR1), none, after;

	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	struct answer answer = ANSWER(pselect(0, NULL, NULL, NULL, NULL, &none));
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	EXPECT(sigismember(&after, SIGUSR1) == 1, "the mask after pselect lets the signal through");
	return answer;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	handle_usr1();
	block_until_check("pselect", call, send_to_thread, (struct answer){ -1, EINTR });
	EXPECT_EQ("times the handler ran", handled_, 1);
	passed();
}
