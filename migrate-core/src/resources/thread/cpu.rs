//! Registers: general ones, FS and GS base, the whole XSAVE area, and the signal mask. Set last, by ptrace.
//!
//! Properties: where it stands in an interrupted system call; a restartable sequence that the stop cut; flags; segment
//! registers; every XSAVE component that the CPU has.

use bincode::{Decode, Encode};
use migrate_linux::cpu::CpuFeatures;
use migrate_linux::regs::{REGISTER_WORDS, Registers};
use migrate_linux::tracee::{RseqConfiguration, Stopped};

use crate::error::{Error, Result};
use crate::resources::Row;

/// What of it moves.
pub const ROW: Row =
    ("registers", "general ones, FS and GS base, the whole XSAVE state (AVX-512 included), signal mask");

/// What travels.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Cpu {
    /// The general registers, as the thread is to go on in a new process.
    pub general: [u64; REGISTER_WORDS],
    /// The XSAVE area.
    pub xstate: Xstate,
    /// The signals that it blocks.
    pub signal_mask: u64,
}

/// An XSAVE area without its empty blocks: of two kilobytes or eleven a thread mostly uses a few hundred bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Xstate {
    /// Bytes of the area.
    size: u32,
    /// Which blocks are there, bit n of byte n/8.
    present: Vec<u8>,
    /// Them, one behind the other.
    blocks: Vec<u8>,
}

/// Bytes of a block.
const BLOCK: usize = 64;
/// The largest area of any processor known is 11 KiB (AMX tiles).
const LARGEST: usize = 64 * 1024;

impl Xstate {
    /// Packs an area.
    pub fn pack(area: &[u8]) -> Xstate {
        let mut packed = Xstate {
            size: area.len() as u32,
            present: vec![0; area.len().div_ceil(BLOCK).div_ceil(8)],
            blocks: Vec::with_capacity(area.len() / 2),
        };
        const EMPTY: [u8; BLOCK] = [0; BLOCK];
        for (n, block) in area.chunks(BLOCK).enumerate() {
            if !EMPTY.starts_with(block) {
                packed.present[n / 8] |= 1 << (n % 8);
                packed.blocks.extend_from_slice(block);
            }
        }
        packed
    }

    /// Gives it the form that this CPU's have, from that of another CPU's.
    pub fn fit(&mut self, other: &CpuFeatures) -> Result<()> {
        *self = Xstate::pack(&CpuFeatures::of_this_cpu().fit_area(&self.unpack()?, other));
        Ok(())
    }

    /// The area. Err: it cannot have been one.
    pub fn unpack(&self) -> Result<Vec<u8>> {
        let size = self.size as usize;
        if size > LARGEST {
            return Err(Error::Invalid(format!("an XSAVE area of {size} bytes")));
        }
        let mut area = vec![0; size];
        let mut rest = self.blocks.as_slice();
        for (n, block) in area.chunks_mut(BLOCK).enumerate() {
            if self.present.get(n / 8).is_some_and(|byte| byte & 1 << (n % 8) != 0) {
                let (here, behind) = rest
                    .split_at_checked(block.len())
                    .ok_or_else(|| Error::Invalid("an XSAVE area that is cut short".into()))?;
                block.copy_from_slice(here);
                rest = behind;
            }
        }
        Ok(area)
    }
}

/// Sets a new thread's registers and mask; nothing may run in it afterwards.
pub fn restore(image: &Cpu, thread: &mut Stopped) -> Result<()> {
    thread.set_xstate(&image.xstate.unpack()?)?;
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_area_comes_out_as_it_went_in(size in 0..4000usize, full in prop::collection::vec(0..4000usize, 0..40)) {
            let mut area = vec![0; size];
            for at in full {
                if let Some(byte) = area.get_mut(at) {
                    *byte = 1 + (at % 255) as u8;
                }
            }
            let packed = Xstate::pack(&area);
            prop_assert_eq!(packed.unpack().unwrap(), area);
        }

        #[test]
        fn anything_from_a_peer_is_an_area_or_an_error(
            size: u32,
            present in prop::collection::vec(any::<u8>(), 0..200),
            blocks in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            if let Ok(area) = (Xstate { size, present, blocks }).unpack() {
                prop_assert_eq!(area.len(), size as usize);
            }
        }
    }

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
