/* A UDP socket with an eBPF filter, which the kernel does not give out: refused by name, and it filters on here. */
#include "inet.h"
#include <linux/bpf.h>

int main(int argc, char **argv)
{
	/* r0 = 0; exit: nothing passes. */
	struct bpf_insn steps[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K }, { .code = BPF_JMP | BPF_EXIT } };
	union bpf_attr program;
	address at = v4("127.0.0.1", 20301);

	begin(argc, argv);
	memset(&program, 0, sizeof program);
	program.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	program.insns = (uintptr_t)steps;
	program.insn_cnt = 2;
	program.license = (uintptr_t)"GPL";
	int filter = syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof program);
	if (filter < 0)
		skipped("this kernel does not let it load an eBPF program");
	int fd = bound_to(SOCK_DGRAM, 0, at);
	set_number(fd, SOL_SOCKET, SO_ATTACH_BPF, filter);
	close(filter);
	ready();
	await_check();
	EXPECT_OK(sendto(fd, "x", 1, 0, &at.any, size_of(&at)));
	expect_nothing("the filtered socket", fd);
	passed();
}
