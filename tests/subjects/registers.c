/*
 * Every register. A thread puts known values into all of them (general,
 * flags, x87, vectors as wide as the CPU has them, masks, FS and GS base) and
 * spins on one instruction, touching none, until another thread overwrites
 * that instruction. What it finds then is compared with what it put in.
 * There is no system call and no usable stack in between.
 */
#include "subject.h"
#include <cpuid.h>

#define FLAGS 0x8d5UL /* CF PF AF ZF SF OF */

struct { uint16_t fcw, fsw; uint8_t ftw, none; uint16_t fop; uint64_t fip, fdp; uint32_t mxcsr, mask; uint8_t st[8][16], xmm[16][16], rest[96]; }
	fx_in __attribute__((aligned(64))), fx_out __attribute__((aligned(64)));
uint64_t general_in[16], general_out[16], flags_in, flags_out, saved_stack, fs_out, gs_out, fs_now, gs_in;
uint8_t vector_in[32][64] __attribute__((aligned(64))), vector_out[32][64] __attribute__((aligned(64)));
uint64_t mask_in[8], mask_out[8];
int width; /* 0: xmm, 1: ymm, 2: zmm and masks */
extern char spin_here[];
void spin(void);

/* general_*[4] is the stack pointer: no use of the stack while it holds the pattern. */
__asm__(
	".text\n.globl spin\nspin:\n"
	"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"mov %rsp, saved_stack(%rip)\n"
	"fxrstor64 fx_in(%rip)\n"
	"cmpl $1, width(%rip)\njb 3f\nja 2f\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovdqu vector_in+64*\\n(%rip), %ymm\\n\n.endr\njmp 3f\n"
	"2:\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 vector_in+64*\\n(%rip), %zmm\\n\n.endr\n"
	".irp n,0,1,2,3,4,5,6,7\nkmovq mask_in+8*\\n(%rip), %k\\n\n.endr\n"
	"3:\n"
	"pushq flags_in(%rip)\npopfq\n"
	"mov general_in+8*0(%rip), %rax\nmov general_in+8*1(%rip), %rcx\nmov general_in+8*2(%rip), %rdx\n"
	"mov general_in+8*3(%rip), %rbx\nmov general_in+8*4(%rip), %rsp\nmov general_in+8*5(%rip), %rbp\n"
	"mov general_in+8*6(%rip), %rsi\nmov general_in+8*7(%rip), %rdi\nmov general_in+8*8(%rip), %r8\n"
	"mov general_in+8*9(%rip), %r9\nmov general_in+8*10(%rip), %r10\nmov general_in+8*11(%rip), %r11\n"
	"mov general_in+8*12(%rip), %r12\nmov general_in+8*13(%rip), %r13\nmov general_in+8*14(%rip), %r14\n"
	"mov general_in+8*15(%rip), %r15\n"
	".balign 16\n.globl spin_here\nspin_here: jmp spin_here\n"
	"mov %rax, general_out+8*0(%rip)\nmov %rcx, general_out+8*1(%rip)\nmov %rdx, general_out+8*2(%rip)\n"
	"mov %rbx, general_out+8*3(%rip)\nmov %rsp, general_out+8*4(%rip)\nmov %rbp, general_out+8*5(%rip)\n"
	"mov %rsi, general_out+8*6(%rip)\nmov %rdi, general_out+8*7(%rip)\nmov %r8, general_out+8*8(%rip)\n"
	"mov %r9, general_out+8*9(%rip)\nmov %r10, general_out+8*10(%rip)\nmov %r11, general_out+8*11(%rip)\n"
	"mov %r12, general_out+8*12(%rip)\nmov %r13, general_out+8*13(%rip)\nmov %r14, general_out+8*14(%rip)\n"
	"mov %r15, general_out+8*15(%rip)\n"
	"mov saved_stack(%rip), %rsp\npushfq\npopq flags_out(%rip)\ncld\n"
	"fxsave64 fx_out(%rip)\n"
	"cmpl $1, width(%rip)\njb 3f\nja 2f\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovdqu %ymm\\n, vector_out+64*\\n(%rip)\n.endr\njmp 3f\n"
	"2:\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 %zmm\\n, vector_out+64*\\n(%rip)\n.endr\n"
	".irp n,0,1,2,3,4,5,6,7\nkmovq %k\\n, mask_out+8*\\n(%rip)\n.endr\n"
	"3:\n"
	"fninit\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");

static volatile int spinning;

static void *spinner(void *unused)
{
	static uint64_t gs_area[2] = { 0x1122334455667788ULL, 0 };
	unsigned int mxcsr = 0x1f80;
	sigset_t all;

	(void)unused;
	/* A signal would need a stack. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	gs_in = (uint64_t)gs_area;
	syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, gs_area);
	syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &fs_now);
	spinning = 1;
	spin();
	__asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
	uint64_t by_gs = 0;
	__asm__ volatile("mov %%gs:0, %0" : "=r"(by_gs));
	EXPECT(by_gs == gs_area[0], "memory at the GS base: got 0x%llx", (unsigned long long)by_gs);
	syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &fs_out);
	syscall(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &gs_out);
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	width = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
	fill(general_in, sizeof general_in, 1);
	fill(vector_in, sizeof vector_in, 2);
	fill(mask_in, sizeof mask_in, 3);
	flags_in = FLAGS | 0x400 /* DF */ | 0x200 /* IF */ | 2;
	__asm__ volatile("fxsave64 %0" : "=m"(fx_in));
	fx_in.fcw = 0x0c7f;          /* round to zero, extended precision, every exception masked, bit 6 */
	fx_in.fsw = 3 << 11 | 0x4700; /* top of the stack at 3, condition codes */
	fx_in.ftw = 0xff;
	fx_in.mxcsr = 0x7fa5;        /* round to zero, exceptions masked, some sticky ones set */
	for (int i = 0; i < 8; i++) {
		fill(fx_in.st[i], 8, 40 + i);
		fx_in.st[i][7] |= 0x80; /* a normal number */
		fx_in.st[i][8] = i, fx_in.st[i][9] = 0x40;
	}
	for (int i = 0; i < 16; i++)
		memcpy(fx_in.xmm[i], vector_in[i], 16);

	char *page = (char *)((uintptr_t)spin_here & ~(PAGE - 1));
	NEED(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
	pthread_t thread = start_thread(spinner, NULL);
	while (!spinning)
		pause_ms(1);
	pause_ms(5);
	ready();
	await_check();
	pause_ms(5);
	/* Two bytes, one aligned store: `jmp .` becomes a two-byte nop. */
	__atomic_store_n((uint16_t *)spin_here, 0x9066, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);

	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	for (int i = 0; i < 16; i++)
		EXPECT_EQ(names[i], general_out[i], general_in[i]);
	EXPECT_EQ("rflags", flags_out, flags_in);
	EXPECT_EQ("FS base", fs_out, fs_now);
	EXPECT_EQ("GS base", gs_out, gs_in);
	EXPECT_EQ("x87 control word", fx_out.fcw, fx_in.fcw);
	EXPECT_EQ("x87 status word", fx_out.fsw, fx_in.fsw);
	EXPECT_EQ("x87 tag word", fx_out.ftw, fx_in.ftw);
	EXPECT_EQ("mxcsr", fx_out.mxcsr, fx_in.mxcsr);
	for (int i = 0; i < 8; i++)
		EXPECT(memcmp(fx_out.st[i], fx_in.st[i], 10) == 0, "x87 register %d changed", i);
	for (int i = 0; i < 16; i++)
		EXPECT(memcmp(fx_out.xmm[i], fx_in.xmm[i], 16) == 0, "xmm%d changed", i);
	for (int i = 0; i < (width == 2 ? 32 : width * 16); i++)
		EXPECT(memcmp(vector_out[i], vector_in[i], width * 32) == 0, "%cmm%d changed", "xyz"[width], i);
	for (int i = 0; i < 8 && width == 2; i++)
		EXPECT_EQ("mask register", mask_out[i], mask_in[i]);
	passed();
}
