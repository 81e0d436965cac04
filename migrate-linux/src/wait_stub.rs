//! A wait that begins anew when it is interrupted gets what is left as its time from a *stub*: the call with another value in one register,
//! and behind it what gives that register back and returns to the program, which sees nothing of it. It lies in bytes that nothing uses,
//! at the end of a program's or a library's code, and moves with the process like all its memory.
//!
//! ```text
//!  0  syscall
//!  2  mov REGISTER, the program's value
//! 12  jmp to behind the program's own syscall instruction
//! 26  struct timespec, if the register is to point at one
//! 42  when the wait ends, nanoseconds of CLOCK_BOOTTIME: the next move need not find that out
//! 50  what tells that this is a stub
//! 56  the stack pointer of the thread that it was made for
//! ```

use crate::regs::{Registers, SYSCALL};
use crate::remote::RemoteAddr;
use crate::waits::{Time, Wait, boot_time, to_bytes};

/// Bytes of a stub.
pub const SIZE: u64 = 64;

const TIME: usize = 26;
const END: usize = 42;
const MARK: (usize, [u8; 6]) = (50, *b"\x0f\x0bwait");
const JUMP: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];

/// Third, fourth and fifth argument: how the instruction that loads them begins.
const LOADS: [(usize, [u8; 2]); 3] = [(2, [0x48, 0xba]), (3, [0x49, 0xba]), (4, [0x49, 0xb8])];

fn register(regs: &mut Registers, argument: usize) -> Option<&mut u64> {
    match argument {
        2 => Some(&mut regs.rdx),
        3 => Some(&mut regs.r10),
        4 => Some(&mut regs.r8),
        _ => None,
    }
}

/// The stub at `address` for a wait that the thread is about to make with the registers `regs`, which still lasts for `left`
/// nanoseconds; and the same wait as it is made there, with its registers. None: no stub can do that.
pub fn stub(
    address: RemoteAddr,
    wait: &Wait,
    regs: &Registers,
    left: i64,
) -> Option<([u8; SIZE as usize], Wait, Registers)> {
    let (_, load) = LOADS.into_iter().find(|(argument, _)| *argument == wait.argument)?;
    let mut there = Registers { rip: address, ..*regs };
    let own = *register(&mut there, wait.argument)?;
    let time = match wait.time {
        Time::Milliseconds(_) => Time::Milliseconds(0),
        Time::Timespec(_) => Time::Timespec(address + TIME as u64),
        Time::Timeval(_) => return None,
    };
    let made = Wait { time, ..*wait };
    set_time(&made, &mut there, left);
    let mut bytes = [0; SIZE as usize];
    let mut put = |at: usize, part: &[u8]| {
        if let Some(room) = bytes.get_mut(at..at + part.len()) {
            room.copy_from_slice(part);
        }
    };
    put(0, &SYSCALL);
    put(2, &load);
    put(4, &own.to_le_bytes());
    put(12, &JUMP);
    put(18, &regs.rip.wrapping_add(2).to_le_bytes());
    put(TIME, &to_bytes(left, 1));
    put(END, &boot_time().saturating_add_signed(left).to_le_bytes());
    put(MARK.0, &MARK.1);
    put(56, &regs.rsp.to_le_bytes());
    Some((bytes, made, there))
}

/// Changes registers with which a wait is made in a stub so that it lasts for so many nanoseconds, if it has its time from them.
pub fn set_time(made: &Wait, regs: &mut Registers, left: i64) {
    let time = match made.time {
        // To the nearest: it takes a moment until the thread runs.
        Time::Milliseconds(_) => (left.max(0).saturating_add(500_000) / 1_000_000).min(i64::from(i32::MAX)) as u64,
        Time::Timespec(address) | Time::Timeval(address) => address,
    };
    if let Some(value) = register(regs, made.argument) {
        *value = time;
    }
}

/// Whether a stub may be put into these bytes for a thread with this stack pointer: nothing lies there, or a stub that was made for the
/// same thread and has been left: with what is on a stack above its stack pointer, a thread cannot come back to it.
pub fn is_room(bytes: &[u8], stack_pointer: u64) -> bool {
    bytes.len() == SIZE as usize && (bytes.iter().all(|b| *b == 0) || is_of(bytes, stack_pointer))
}

/// Whether this is a stub.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.get(MARK.0..MARK.0 + MARK.1.len()) == Some(&MARK.1)
}

/// Whether this is a stub that was made for a thread with this stack pointer.
pub fn is_of(bytes: &[u8], stack_pointer: u64) -> bool {
    is_one(bytes) && bytes.get(56..) == Some(&stack_pointer.to_le_bytes())
}

/// A wait that a thread makes in a stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InStub {
    /// When it ends, nanoseconds of CLOCK_BOOTTIME of the host on which the stub was written.
    pub end: u64,
    /// The registers with which the thread would make the call itself.
    pub own: Registers,
}

/// The wait of a thread that is about to make the call of the stub `bytes` with these registers. None: this is no stub.
pub fn read(bytes: &[u8], regs: &Registers) -> Option<InStub> {
    if bytes.get(..2) != Some(&SYSCALL) || bytes.get(12..18) != Some(&JUMP) || !is_one(bytes) {
        return None;
    }
    let word = |at: usize| bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes);
    let (argument, _) = LOADS.into_iter().find(|(_, load)| bytes.get(2..4) == Some(load))?;
    let mut own = Registers { rip: word(18)?.wrapping_sub(2), ..*regs };
    *register(&mut own, argument)? = word(4)?;
    Some(InStub { end: word(END)?, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_gives_back_what_it_was_given() {
        let regs = Registers { rip: 0x1000, rsp: 0x7000, r10: 60_000, ..Registers::default() };
        let wait = Wait::of(libc::SYS_epoll_wait as u64, &regs).unwrap();
        let (bytes, made, there) = stub(0x5000, &wait, &regs, 1_600_000).unwrap();
        assert_eq!((there.rip, there.r10), (0x5000, 2));
        let mut later = there;
        set_time(&made, &mut later, 700_000);
        assert_eq!(later, Registers { r10: 1, ..there });
        let InStub { end, own } = read(&bytes, &there).unwrap();
        assert_eq!(own, regs);
        let left = end.wrapping_sub(boot_time()) as i64;
        assert!((1..=1_600_000).contains(&left) || left <= 0, "it ends later than it should: {left}");
        assert!(is_room(&bytes, 0x7000) && !is_room(&bytes, 0x6ff8) && is_room(&[0; 64], 0x6ff8));
        assert!(!is_room(&[1; 64], 0) && !is_room(&[0; 63], 0) && read(&[0; 64], &there).is_none());
    }

    /// Runs in this thread: a relative wait for a signal, with a time that is not in its register.
    #[test]
    fn it_runs() {
        let regs = Registers { rdx: 0xdead_beef, rsp: 1, ..Registers::default() };
        let wait = Wait::of(libc::SYS_rt_sigtimedwait as u64, &regs).unwrap();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        // SAFETY: a new mapping.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) } as u64;
        let (result, rdx): (i64, u64);
        let set = 1u64;
        // SAFETY: the page is ours. The stub is entered as its registers say, makes a call that changes no memory, and returns to
        // behind the jump, whose address it was given; it changes what a system call does.
        unsafe {
            let (bytes, _, there) = stub(page, &wait, &Registers { rip: 0, ..regs }, 3_000_000).unwrap();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), page as *mut u8, bytes.len());
            std::arch::asm!(
                "lea {scratch}, [rip + 2f]",
                "mov [{page} + 18], {scratch}",
                "jmp {page}",
                "2:",
                page = in(reg) page,
                scratch = out(reg) _,
                inout("rax") libc::SYS_rt_sigtimedwait => result,
                in("rdi") &raw const set,
                in("rsi") 0u64,
                inout("rdx") there.rdx => rdx,
                in("r10") 8u64,
                out("rcx") _,
                out("r11") _,
            );
            libc::munmap(page as *mut libc::c_void, 4096);
        }
        assert_eq!((result, rdx), (-i64::from(libc::EAGAIN), 0xdead_beef));
    }
}
