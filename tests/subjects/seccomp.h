/*
 * Seccomp filters, for the subjects that confine themselves.
 */
#ifndef SECCOMP_H
#define SECCOMP_H
#include "subject.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

#define LENGTH(list) (sizeof(list) / sizeof(list)[0])
#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)
/* Of a call of this number; the others go on behind. */
#define IF_CALL(number, action)                                                      \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), ANSWER(action)

static UNUSED void install(struct sock_filter *list, size_t length, unsigned flags)
{
	struct sock_fprog program = { length, list };

	NEED(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0);
}

/* From now on this call gives this error; all others are as before. */
static UNUSED void forbid(int number, int error, unsigned flags)
{
	struct sock_filter list[] = {
		LOAD_NUMBER,
		IF_CALL(number, SECCOMP_RET_ERRNO | error),
		ANSWER(SECCOMP_RET_ALLOW),
	};

	install(list, LENGTH(list), flags);
}

static UNUSED void expect_error(const char *who, long number, int error)
{
	long result = syscall(number, 0, 0, 0);

	EXPECT(error ? result == -1 && errno == error : result != -1, "%s: call %ld gives %ld (%s), not error %d", who,
	       number, result, strerror(errno), error);
}

#endif
