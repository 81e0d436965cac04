//! Registers: general ones, FS and GS base, the whole XSAVE area, and the signal mask. Set last, by ptrace.
//!
//! Properties: where it stands in an interrupted system call; a restartable sequence that the stop cut; flags; segment
//! registers; every XSAVE component that the CPU has.

use bincode::{Decode, Encode};
use migrate_linux::regs::{REGISTER_WORDS, Registers};
use migrate_linux::tracee::{RseqConfiguration, Stopped};

use crate::error::Result;

/// What travels.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Cpu {
    /// The general registers, as the thread is to go on in a new process.
    pub general: [u64; REGISTER_WORDS],
    /// The XSAVE area.
    pub xstate: Vec<u8>,
    /// The signals that it blocks.
    pub signal_mask: u64,
}

/// Sets a new thread's registers and mask; nothing may run in it afterwards.
pub fn restore(image: &Cpu, thread: &mut Stopped) -> Result<()> {
    thread.set_xstate(&image.xstate)?;
    thread.set_registers(&Registers::from_words(image.general))?;
    thread.set_signal_mask(image.signal_mask)?;
    Ok(())
}

/// Where the kernel would have a thread go on that was stopped inside a restartable sequence: at its abort handler.
///
/// The kernel does so by itself when the thread returns to its program, but a system call made in the thread in between
/// makes it forget the sequence (`rseq_ip_fixup`, kernel/rseq.c). `critical_section` is `struct rseq_cs`: version, flags,
/// start, length, abort handler.
pub fn abort_address(rip: u64, critical_section: &[u8; 32]) -> Option<u64> {
    let word = |at: usize| critical_section[at..at + 8].iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b));
    let (start, length, abort) = (word(8), word(16), word(24));
    (rip.wrapping_sub(start) < length).then_some(abort)
}

/// The address of the word that points at the present critical section; None when the thread has no rseq.
pub fn critical_section_pointer(rseq: &RseqConfiguration) -> Option<u64> {
    (rseq.address != 0).then(|| rseq.address.wrapping_add(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_sequence_goes_on_at_its_abort_handler() {
        let mut cs = [0u8; 32];
        cs[8..16].copy_from_slice(&0x1000u64.to_le_bytes());
        cs[16..24].copy_from_slice(&0x10u64.to_le_bytes());
        cs[24..32].copy_from_slice(&0x2000u64.to_le_bytes());
        assert_eq!(abort_address(0x1000, &cs), Some(0x2000));
        assert_eq!(abort_address(0x100f, &cs), Some(0x2000));
        assert_eq!(abort_address(0x1010, &cs), None);
        assert_eq!(abort_address(0xfff, &cs), None);
    }
}
