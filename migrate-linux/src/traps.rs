//! What makes a thread's instructions trap, or lets it reach I/O ports: kept in bits of `thread_info.flags`, whose numbers differ
//! between kernels and are told nowhere. So a thread made for it switches each on and off, and looks which bit goes with it.

use crate::error::{Error, Result};

/// A switch of the calling thread: call, arguments for on and for off.
type Switch = (libc::c_long, [u64; 3], [u64; 3]);

const ARCH_SET_CPUID: u64 = 0x1012;
const PR_SPEC_L1D_FLUSH: u64 = 2;
const PR_SPEC_ENABLE: u64 = 2;
const PR_SPEC_DISABLE: u64 = 4;
const SPECULATION: u64 = libc::PR_SET_SPECULATION_CTRL as u64;

/// RDTSC faults; CPUID faults; the L1 data cache is flushed.
const SWITCHES: [Switch; 3] = [
    (libc::SYS_prctl, [libc::PR_SET_TSC as u64, 2, 0], [libc::PR_SET_TSC as u64, 1, 0]),
    (libc::SYS_arch_prctl, [ARCH_SET_CPUID, 0, 0], [ARCH_SET_CPUID, 1, 0]),
    (
        libc::SYS_prctl,
        [SPECULATION, PR_SPEC_L1D_FLUSH, PR_SPEC_ENABLE],
        [SPECULATION, PR_SPEC_L1D_FLUSH, PR_SPEC_DISABLE],
    ),
];
const PORTS: Switch = (libc::SYS_iopl, [3, 0, 0], [0, 0, 0]);
/// Other bits come and go by chance.
const LOOKS: usize = 3;

/// Which bits of `thread_info.flags` stand for what. What this host cannot do, none of its threads does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrapBits {
    /// Something faults, or is flushed.
    pub(crate) traps: u64,
    /// I/O ports may be used (ioperm, iopl).
    pub(crate) ports: u64,
}

impl TrapBits {
    /// `flags` reads those of the calling thread, which nobody else must need: meanwhile it must ask neither for the time nor for what
    /// the CPU can do.
    pub(crate) fn find(flags: impl Fn() -> Result<u64>) -> Result<TrapBits> {
        let traps = SWITCHES.iter().try_fold(0, |bits, switch| Ok::<_, Error>(bits | bits_of(switch, &flags)?))?;
        Ok(TrapBits { traps, ports: bits_of(&PORTS, flags)? })
    }
}

fn bits_of((number, on, off): &Switch, flags: impl Fn() -> Result<u64>) -> Result<u64> {
    let (mut always, mut never) = (u64::MAX, 0);
    for _ in 0..LOOKS {
        never |= flags()?;
        if !call(*number, on) {
            return Ok(0);
        }
        let seen = flags();
        call(*number, off);
        always &= seen?;
    }
    match always & !never {
        0 => Err(Error::Unsupported(format!("system call {number}({on:?}) shows in no flag of a thread"))),
        bits => Ok(bits),
    }
}

fn call(number: libc::c_long, [a, b, c]: &[u64; 3]) -> bool {
    // SAFETY: these calls take numbers alone and change nothing but how this thread's own instructions behave.
    unsafe { libc::syscall(number, *a, *b, *c, 0, 0) == 0 }
}
