//! The batch executor: position-independent code in a page of the tracee that runs a list of system calls and stores each
//! result. A batch costs 0.2–1.5 µs a call, a call injected by ptrace 12–75 µs.
//!
//! A batch ends in a *stop that only a traced thread makes*: the thread sends itself a signal that its program ignores.
//! A traced thread reports it (ignored signals are not dropped for a tracee, `sig_ignored` in kernel/signal.c). When the
//! tracer has died meanwhile, the kernel drops the signal, the executor goes on behind it, puts the signal mask and the
//! registers back that were written beforehand, and jumps to where the program was. So an agent may be killed at any
//! instruction of a batch in the source process. Nothing here touches the FPU, and nothing returns by rt_sigreturn, which
//! would make an interrupted sleep in the same process end with EINTR.
//!
//! The calls that put an executor in and take it out are made one by one, from a [`stub`] with the same way back. What a killed agent
//! leaves behind is the mapping (and the stub, in bytes that nothing uses): memory that the program never touches.
//!
//! Layout of a mapping: one page of code, then data. A *block* in the data is what one thread runs:
//! a header of [`BLOCK_HEADER`] bytes, then calls of [`CALL_SIZE`] bytes each.

use std::arch::global_asm;

use crate::regs::Registers;

/// Bytes of a block's header.
pub const BLOCK_HEADER: usize = 256;
/// Bytes of one call in a block: number and flags, six arguments, result.
pub const CALL_SIZE: usize = 64;
/// Where in a call its result is.
pub const CALL_RESULT: usize = 56;
/// In a call's flags: when it fails, the batch ends there.
pub const CALL_MUST_SUCCEED: u32 = 1;

// Header fields, by offset.
const AT: usize = 16;
const SIGNAL: usize = 24;
const MASK: usize = 32;
const SAVED: usize = 40; // rax rbx rcx rdx rsi rdi rbp r8..r15 rsp rip eflags

global_asm!(
    ".pushsection .rodata.migrate_executor, \"a\"",
    ".balign 16",
    ".globl migrate_executor_start",
    "migrate_executor_start:",
    // rbx: block; r12: next call; r13: end of the calls
    "2:",
    "cmp r12, r13",
    "jae 3f",
    "mov eax, [r12]",
    "mov rdi, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov r10, [r12 + 32]",
    "mov r8, [r12 + 40]",
    "mov r9, [r12 + 48]",
    "syscall",
    "mov [r12 + 56], rax",
    "mov ecx, [r12 + 4]",
    "add r12, 64",
    "test ecx, 1",
    "jz 2b",
    "cmp rax, -4095",
    "jb 2b",
    "3:",
    "mov [rbx + 16], r12",
    "mov eax, 39", // getpid
    "syscall",
    "mov rdi, rax",
    "mov eax, 186", // gettid
    "syscall",
    "mov rsi, rax",
    "mov edx, [rbx + 24]",
    "mov eax, 234", // tgkill
    "syscall",
    ".globl migrate_executor_stop",
    "migrate_executor_stop:",
    // Nobody traces this thread any more: back to the program.
    "mov eax, 14", // rt_sigprocmask
    "mov edi, 2",  // SIG_SETMASK
    "lea rsi, [rbx + 32]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    // The way back goes through a word below the red zone of the program's stack, which signals may clobber anyway.
    "mov rax, [rbx + 160]", // rsp
    "mov rcx, [rbx + 168]", // rip
    "mov [rax - 136], rcx",
    "push qword ptr [rbx + 176]",
    "popfq",
    "mov rcx, [rbx + 56]",
    "mov rdx, [rbx + 64]",
    "mov rsi, [rbx + 72]",
    "mov rdi, [rbx + 80]",
    "mov rbp, [rbx + 88]",
    "mov r8, [rbx + 96]",
    "mov r9, [rbx + 104]",
    "mov r10, [rbx + 112]",
    "mov r11, [rbx + 120]",
    "mov r12, [rbx + 128]",
    "mov r13, [rbx + 136]",
    "mov r14, [rbx + 144]",
    "mov r15, [rbx + 152]",
    "mov rax, [rbx + 40]",
    "mov rsp, [rbx + 160]",
    "mov rbx, [rbx + 48]",
    "jmp qword ptr [rsp - 136]",
    ".globl migrate_executor_end",
    "migrate_executor_end:",
    ".popsection",
);

unsafe extern "C" {
    static migrate_executor_start: u8;
    static migrate_executor_stop: u8;
    static migrate_executor_end: u8;
}

/// The executor's machine code.
pub fn code() -> &'static [u8] {
    let start = &raw const migrate_executor_start;
    let end = &raw const migrate_executor_end;
    // SAFETY: both symbols bound one read-only section that the assembler above fills; end is not before start.
    unsafe { std::slice::from_raw_parts(start, end.offset_from(start) as usize) }
}

/// Offset in the code of the instruction at which a finished batch stands.
pub fn stop_offset() -> u64 {
    (&raw const migrate_executor_stop) as u64 - (&raw const migrate_executor_start) as u64
}

/// The most bytes of a [`stub`].
pub const STUB_SIZE: usize = 384;

/// A `syscall` instruction, and behind it the way back to the program: for the calls that are made one by one while there is no
/// executor. It reads what it needs from its own end, so it may lie in memory that the program cannot write; and it pushes a word,
/// so the stack pointer must be [`STUB_STACK`] below the program's.
///
/// The instruction is at [`STUB_CALL`]. At its very beginning is another, for a call that opens a descriptor, which is closed on the
/// way: what it returns is what the one at [`STUB_CALL`] is given, with the number of close.
pub fn stub(rescue: &Rescue) -> Vec<u8> {
    // syscall; mov edi, eax; mov eax, 3 (close); syscall
    const CALLS: [u8; STUB_CALL as usize + 2] = [0x0f, 0x05, 0x89, 0xc7, 0xb8, 3, 0, 0, 0, 0x0f, 0x05];
    const LEA_RBX: [u8; 3] = [0x48, 0x8d, 0x1d]; // lea rbx, [rip + ...]
    let way_back = code().get(stop_offset() as usize..).unwrap_or_default();
    let code_length = CALLS.len() + LEA_RBX.len() + 4;
    let data = (code_length + way_back.len()).next_multiple_of(8);
    let header = block(0, &[], 0, rescue);
    let mut bytes = CALLS.to_vec();
    bytes.extend(LEA_RBX);
    bytes.extend((data as i32 - MASK as i32 - code_length as i32).to_le_bytes());
    bytes.extend(way_back);
    bytes.resize(data, 0);
    bytes.extend(header.get(MASK..SAVED + 18 * 8).unwrap_or_default());
    bytes
}

/// Where in a [`stub`] its plain call is.
pub const STUB_CALL: u64 = 9;

/// How far below the program's the stack pointer is in a [`stub`]: below the red zone, and the word that the way back goes through.
pub const STUB_STACK: u64 = 136;

/// Whether a [`stub`] may lie in these [`STUB_SIZE`] bytes: nothing does, or an earlier one that was left behind.
pub fn is_room_for_stub(bytes: &[u8]) -> bool {
    let stub = stub(&Rescue { registers: Registers::default(), mask: 0 });
    let code = stub.len() - (SAVED + 18 * 8 - MASK);
    bytes.len() >= STUB_SIZE && (bytes.iter().all(|b| *b == 0) || bytes.get(..code) == stub.get(..code))
}

/// One call of a block.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The system call number.
    pub number: u32,
    /// [`CALL_MUST_SUCCEED`] or 0.
    pub flags: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What a thread goes back to should its tracer die during a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rescue {
    /// Its registers, already such that its interrupted call is made again.
    pub registers: Registers,
    /// Its signal mask.
    pub mask: u64,
}

/// The bytes of a block that is to lie at `address`.
pub fn block(address: u64, calls: &[Call], signal: i32, rescue: &Rescue) -> Vec<u8> {
    let first = address + BLOCK_HEADER as u64;
    let mut bytes = vec![0u8; BLOCK_HEADER + calls.len() * CALL_SIZE];
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(AT, first);
    put(SIGNAL, signal as u64);
    put(MASK, rescue.mask);
    let r = &rescue.registers;
    let saved = [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rsp,
        r.rip, r.eflags,
    ];
    for (i, value) in saved.into_iter().enumerate() {
        put(SAVED + i * 8, value);
    }
    for (i, call) in calls.iter().enumerate() {
        let at = BLOCK_HEADER + i * CALL_SIZE;
        put(at, u64::from(call.number) | u64::from(call.flags) << 32);
        for (j, arg) in call.args.into_iter().enumerate() {
            put(at + 8 + j * 8, arg);
        }
    }
    bytes
}

/// The registers with which a thread starts the block at `address`; the code lies at `code`.
pub fn entry(code: u64, address: u64, calls: usize, template: &Registers) -> Registers {
    let first = address + BLOCK_HEADER as u64;
    Registers {
        rip: code,
        rbx: address,
        rsp: address,
        r12: first,
        r13: first + (calls * CALL_SIZE) as u64,
        orig_rax: crate::regs::NOT_IN_A_CALL,
        rax: 0,
        // No trap, no direction, no alignment check left over from the program.
        eflags: 0x202,
        ..*template
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_fits_a_page_and_the_layout_is_what_it_says() {
        assert!(code().len() < 4096);
        assert!((stop_offset() as usize) < code().len());
        let stub = stub(&Rescue { registers: Registers::default(), mask: 0 });
        assert!(stub.len() <= STUB_SIZE, "{}", stub.len());
        assert!(is_room_for_stub(&[0; STUB_SIZE]) && !is_room_for_stub(&[0; STUB_SIZE - 1]));
        let left_behind = [stub, vec![0; STUB_SIZE]].concat();
        assert!(is_room_for_stub(&left_behind) && !is_room_for_stub(&[1; STUB_SIZE]));
        // The saved registers' places are spelled as numbers in the assembly.
        assert_eq!((AT, SIGNAL, MASK, SAVED), (16, 24, 32, 40));
        assert_eq!(SAVED + 15 * 8, 160, "rsp");
        assert_eq!(SAVED + 16 * 8, 168, "rip");
        assert_eq!(SAVED + 17 * 8, 176, "eflags");
    }
}
