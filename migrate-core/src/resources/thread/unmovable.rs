//! What of a thread cannot move, and is seen only when it stands: hardware breakpoints that a debugger has left, system calls handed
//! to the program (PR_SET_SYSCALL_USER_DISPATCH), I/O ports, what it has parted from the other threads by unshare(2) or setns(2),
//! and what only a 32-bit program or a debugger does with registers.

use migrate_linux::kcmp::{self, Shared};
use migrate_linux::regs::Registers;
use migrate_linux::thread_probe::{DISPATCHES, PORTS, ThreadRecord};
use migrate_linux::tracee::Stopped;

use crate::error::{Doing, Result};
use crate::resources::FrozenThread;

/// In EFLAGS: a trap after each instruction.
const SINGLE_STEP: u64 = 1 << 8;
/// DR7 without its enabled breakpoints.
const NO_BREAKPOINT: u64 = 0xff;
/// Selectors of every 64-bit program on every kernel (asm/segment.h).
const CODE_64: u64 = 0x33;
const DATA: u64 = 0x2b;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    breakpoints: bool,
    dispatches: bool,
    ports: bool,
    directories: bool,
    descriptors: bool,
    namespaces: bool,
}

/// The reasons of one thread; `first` is the first thread's ID as the agent sees it.
pub fn reasons(thread: &FrozenThread, first: i32) -> Result<Vec<String>> {
    let found = match &thread.shown.record {
        Some(record) => recorded(record),
        None => looked_for(&thread.stopped, first)?,
    };
    let tid = thread.stopped.tid();
    let mut reasons = said(found, tid);
    reasons.extend(of_registers(&thread.stopped.registers()?, tid));
    Ok(reasons)
}

fn recorded(record: &ThreadRecord) -> Found {
    Found {
        breakpoints: record.debug_control & NO_BREAKPOINT != 0,
        dispatches: record.syscall_work & DISPATCHES != 0,
        ports: record.unusual & PORTS != 0,
        directories: record.parted & 1 != 0,
        descriptors: record.parted & 2 != 0,
        namespaces: record.parted & 4 != 0,
    }
}

fn looked_for(stopped: &Stopped, first: i32) -> Result<Found> {
    let tid = stopped.tid();
    let parted = |what| match tid == first {
        true => Ok(false),
        false => kcmp::same(what, first, tid).map(|same| !same).doing(|| format!("compare thread {tid} with {first}")),
    };
    Ok(Found {
        breakpoints: stopped.debug_control()? & NO_BREAKPOINT != 0,
        dispatches: stopped.dispatches_calls()?,
        ports: stopped.may_use_ports()?,
        directories: parted(Shared::Fs)?,
        descriptors: parted(Shared::Files)?,
        // Of few threads, preflight reads them.
        namespaces: false,
    })
}

fn said(found: Found, tid: i32) -> Vec<String> {
    let table = [
        (found.breakpoints, "has hardware breakpoints, left by a debugger; they cannot move: remove them with it"),
        (
            found.dispatches,
            "has its system calls handed to the program (PR_SET_SYSCALL_USER_DISPATCH); that cannot move",
        ),
        (found.ports, "may use I/O ports (ioperm, iopl); ports cannot move"),
        (
            found.directories,
            "has a working directory, root or umask of its own (unshare CLONE_FS); that cannot move yet",
        ),
        (found.descriptors, "has descriptors of its own (unshare CLONE_FILES); that cannot move yet"),
        (found.namespaces, "is in other namespaces than the first thread; that cannot move yet"),
    ];
    table.into_iter().filter(|(is, _)| *is).map(|(_, what)| format!("thread {tid} {what}")).collect()
}

/// What a 64-bit program without a debugger never has.
fn of_registers(regs: &Registers, tid: i32) -> Option<String> {
    if regs.eflags & SINGLE_STEP != 0 {
        return Some(format!("thread {tid} is being single-stepped (TF); end that first"));
    }
    if regs.cs != CODE_64 {
        return Some(format!("thread {tid} runs 32-bit code; 32-bit programs cannot move"));
    }
    let usual = |selector: u64| matches!(selector, 0..=3 | DATA);
    [("SS", regs.ss), ("DS", regs.ds), ("ES", regs.es), ("FS", regs.fs), ("GS", regs.gs)]
        .into_iter()
        .find(|(_, selector)| !usual(*selector))
        .map(|(name, selector)| {
            format!(
                "thread {tid} has a segment of its own in {name} ({selector:#x}: modify_ldt or set_thread_area); that cannot move"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_thread_has_nothing() {
        let none = Found {
            breakpoints: false,
            dispatches: false,
            ports: false,
            directories: false,
            descriptors: false,
            namespaces: false,
        };
        assert!(said(none, 7).is_empty());
        let two = said(Found { ports: true, descriptors: true, ..none }, 7);
        assert!(two.len() == 2 && two[0].contains("thread 7 may use I/O ports") && two[1].contains("CLONE_FILES"));
        let usual = Registers { cs: CODE_64, ss: DATA, eflags: 0x246, ..Registers::default() };
        assert_eq!(of_registers(&usual, 7), None);
    }

    #[test]
    fn unusual_registers_are_named() {
        let usual = Registers { cs: CODE_64, ss: DATA, eflags: 0x246, ..Registers::default() };
        let why = |regs: Registers| of_registers(&regs, 7).unwrap();
        assert!(why(Registers { eflags: 0x346, ..usual }).contains("single-stepped"));
        assert!(why(Registers { cs: 0x23, ..usual }).contains("32-bit"));
        assert!(why(Registers { fs: 0x7, ..usual }).contains("FS (0x7"));
        assert!(why(Registers { gs: 0x63, ..usual }).contains("GS (0x63"));
        assert_eq!(of_registers(&Registers { ds: DATA, es: DATA, ..usual }, 7), None);
    }
}
