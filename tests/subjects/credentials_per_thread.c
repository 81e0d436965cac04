/* Credentials are each thread's own in the kernel: one thread that lowered its file-system user and capabilities. */
#include "subject.h"
#include <linux/capability.h>

static volatile int changed;

static void capabilities(uint64_t *effective)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	EXPECT_OK(syscall(SYS_capget, &header, data));
	*effective = data[0].effective | (uint64_t)data[1].effective << 32;
}

static void *lowered(void *unused)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	uint64_t before, after;

	(void)unused;
	/* The system calls themselves: libc's would change every thread. */
	NEED(syscall(SYS_setresgid, 1001, 1001, 1001) == 0);
	NEED(syscall(SYS_capget, &header, data) == 0);
	data[0].effective &= ~(1U << CAP_NET_RAW | 1U << CAP_SYS_NICE);
	NEED(syscall(SYS_capset, &header, data) == 0);
	capabilities(&before);
	changed = 1;
	await_check();
	capabilities(&after);
	EXPECT_EQ("effective capabilities of the thread", after, before);
	EXPECT_EQ("group of the thread", syscall(SYS_getgid), 1001);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t before, after;

	begin(argc, argv);
	if (geteuid() != 0)
		skipped("to become another group takes root");
	capabilities(&before);
	pthread_t thread = start_thread(lowered, NULL);
	while (!changed)
		pause_ms(1);
	ready();
	await_check();
	capabilities(&after);
	EXPECT_EQ("effective capabilities of the first thread", after, before);
	EXPECT_EQ("group of the first thread", syscall(SYS_getgid), 0);
	pthread_join(thread, NULL);
	passed();
}
