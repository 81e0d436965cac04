//! What the threads wait for, looked at while they run and at every stop before the freeze: it says whether a probe is worth while, which
//! calls go on from what the kernel has noted of them, and when waits would have ended that such a stop makes begin anew.

use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::regs::Registers;
use migrate_linux::waits::{Interrupted, Wait};

use super::subject::Subject;
use crate::proc::listing::read_tids;
use crate::proc::syscall::{Waiting, read_syscall, read_wchan};
use crate::resources::thread::wait::{needs_a_probe, whole};
use crate::resources::thread::wait_end::ends_at;

/// With more threads than this the probe is worth while anyway, and looking at all of them takes long.
const MOST: u64 = 64;

/// Whether a thread waits for a time of which only the kernel knows how much is left. Notes calls that have been interrupted before.
///
/// The second part: one waits so that any stop would make it begin anew.
pub fn look(subject: &mut Subject, memory: &ProcessMemory) -> (bool, bool) {
    let pid = subject.pid;
    // The first thread is stopped before the others in any case.
    let tids = if subject.status.threads > MOST { vec![pid] } else { read_tids(pid).unwrap_or_default() };
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

/// What waits would be over when, had a stop not interrupted them: of each thread when, how long it lasts from its beginning, and how many had been.
pub type Cut = Vec<(i32, u64, i64, u64)>;

/// Looks at threads that stand: those with these IDs and registers.
pub fn cut(subject: &Subject, stopped: &[(i32, Registers)]) -> Cut {
    let goes_on = |regs: &Registers| regs.resumable(false, false);
    let anew = |regs: &Registers| {
        let again = goes_on(regs);
        let wait = Wait::of(again.rax, &again).filter(|_| again != *regs);
        wait.filter(|wait| wait.interrupted == Interrupted::Anew)
    };
    if stopped.iter().all(|(_, regs)| anew(regs).is_none()) {
        return Cut::new();
    }
    // Without, it begins anew, as it does without a probe.
    let Some(Ok(records)) = subject.probe.get().map(|probe| probe.read()) else { return Cut::new() };
    let Ok(memory) = ProcessMemory::open(subject.pid) else { return Cut::new() };
    let record_of = |tid: i32| records.iter().find(|record| record.seen_tid == tid);
    let cut_of = |(tid, regs): &(i32, Registers)| {
        let whole = whole(&anew(regs)?, &memory)?;
        let record = record_of(*tid)?;
        let end = ends_at(record, whole)?;
        Some((*tid, subject.ends.really(*tid, end, record.cuts), whole, record.cuts))
    };
    stopped.iter().filter_map(cut_of).collect()
}

/// They run again.
pub fn begin_anew(subject: &mut Subject, cut: Cut) {
    for (tid, really, whole, cuts) in cut {
        subject.ends.begins_anew(tid, really, whole, cuts);
    }
}
