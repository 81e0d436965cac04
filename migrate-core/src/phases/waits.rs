//! What the threads wait for, looked at while they run: it says whether a probe is worth while, and which calls go on from what the kernel
//! has noted of them.

use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::regs::Registers;
use migrate_linux::waits::Wait;

use super::subject::Subject;
use crate::proc::listing::read_tids;
use crate::proc::syscall::{Waiting, read_syscall, read_wchan};
use crate::resources::thread::wait::needs_a_probe;

/// With more threads than this the probe is worth while anyway, and looking at all takes long.
const MOST: u64 = 64;

/// Whether a thread waits for a time of which only the kernel knows how much is left. Notes calls that have been interrupted before.
pub fn look(subject: &mut Subject, memory: &ProcessMemory) -> bool {
    let pid = subject.pid;
    if subject.status.threads > MOST {
        return false;
    }
    let mut probe = false;
    // It may end, or not be shown, which is no reason to stop here: what it waits for then begins anew.
    for tid in read_tids(pid).unwrap_or_default() {
        let Ok(Some(Waiting { mut call, arguments: [rdi, rsi, rdx, r10, r8, r9] })) = read_syscall(pid, tid) else {
            continue;
        };
        let regs = Registers { rdi, rsi, rdx, r10, r8, r9, ..Registers::default() };
        if call == libc::SYS_restart_syscall as u64 {
            let noted = read_wchan(pid, tid).ok().and_then(|function| Wait::noted_in(&function, &regs));
            let Some(noted) = noted else { continue };
            subject.interrupted.insert(tid, noted);
            call = noted;
        }
        probe |= Wait::of(call, &regs).is_some_and(|wait| needs_a_probe(&wait, memory));
    }
    probe
}
