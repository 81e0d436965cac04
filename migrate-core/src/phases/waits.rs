//! What the threads wait for, looked at while they run and at every stop before the freeze: it says whether a probe is worth while, which
//! calls go on from what the kernel has noted of them, and when waits would have ended that such a stop makes begin anew.

use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::regs::Registers;
use migrate_linux::waits::{Interrupted, Wait};

use super::subject::Subject;
use crate::proc::listing::read_tids;
use crate::proc::process::Process;
use crate::proc::syscall::{Waiting, read_syscall, read_wchan};
use crate::resources::thread::wait::{needs_a_probe, whole};
use crate::resources::thread::wait_end::{Cut, ends_at};

/// With more threads than this the probe is worth while anyway, and looking at all of them takes long.
const MOST: u64 = 64;

/// Whether a thread waits for a time of which only the kernel knows how much is left. Notes calls that have been interrupted before.
///
/// The second part: one waits so that any stop would make it begin anew.
pub fn look(subject: &mut Subject, memory: &ProcessMemory) -> (bool, bool) {
    let Process { pid, alive } = subject.process;
    // It is stopped before the others in any case.
    let tids = if subject.status.threads > MOST { vec![alive] } else { read_tids(pid).unwrap_or_default() };
    let (mut probe, mut anew) = (false, false);
    for tid in tids {
        // It may have ended, or not be shown, which is no reason to stop here: what it waits for then begins anew.
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
        if let Some(wait) = Wait::of(call, &regs).filter(|wait| needs_a_probe(wait, memory)) {
            probe = true;
            anew |= wait.interrupted == Interrupted::Anew;
        }
    }
    (probe, anew)
}

/// Looks at threads that stand, with these IDs and registers: which waits begin anew when they go on.
pub fn cut(subject: &Subject, stopped: &[(i32, Registers)]) -> Vec<Cut> {
    let goes_on = |regs: &Registers| regs.resumable(false, false);
    let is_anew = |wait: &Wait| wait.interrupted == Interrupted::Anew;
    let may_be = |(tid, regs): &(i32, Registers)| {
        let again = goes_on(regs);
        (again != *regs || subject.ends.has(*tid)) && Wait::of(again.rax, &again).is_some_and(|wait| is_anew(&wait))
    };
    if !stopped.iter().any(may_be) {
        return Vec::new();
    }
    // Without, it begins anew, as it does without a probe.
    let Some(Ok(records)) = subject.probe.get().map(|probe| probe.read()) else { return Vec::new() };
    let Ok(memory) = ProcessMemory::open(subject.process.alive) else { return Vec::new() };
    let record_of = |tid: i32| records.iter().find(|record| record.seen_tid == tid);
    let cut_of = |(tid, regs): &(i32, Registers)| {
        let (goes_on, record) = (goes_on(regs), record_of(*tid)?);
        let whole = whole(&Wait::of(goes_on.rax, &goes_on).filter(is_anew)?, &memory)?;
        let really = match goes_on == *regs {
            true => subject.ends.not_begun(*tid, regs, record.cuts)?,
            false => subject.ends.really(*tid, ends_at(record, whole)?, record.cuts),
        };
        Some(Cut { tid: *tid, really, whole, cuts: record.cuts, goes_on })
    };
    stopped.iter().filter(|thread| may_be(thread)).filter_map(cut_of).collect()
}

/// They run again.
pub fn begin_anew(subject: &mut Subject, cut: Vec<Cut>) {
    cut.into_iter().for_each(|cut| subject.ends.begins_anew(cut));
}
