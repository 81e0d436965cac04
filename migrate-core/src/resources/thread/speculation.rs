//! What the CPU may not guess for this thread, because the thread wants it so (PR_SET_SPECULATION_CTRL of prctl(2)): store bypass,
//! indirect branches, and whether the L1 data cache is flushed.

use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results, Ticket};
use migrate_linux::thread_probe::{TRAPS, ThreadRecord};
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image: what to set for each misfeature, 0 for what a thread has anyway.
pub enum Speculation {}

/// Store bypass, indirect branch, L1D flush: each with the state that a thread has which asked for nothing.
const MISFEATURES: [(i32, u64); 3] = [(0, ENABLE), (1, ENABLE), (2, DISABLE)];
const PER_THREAD: u64 = 1; // PR_SPEC_PRCTL
const ENABLE: u64 = 2;
const DISABLE: u64 = 4;
/// PFA_SPEC_* of `atomic_flags` (linux/sched.h).
const RECORDED: u64 = 0b1111_1000;

impl TaskKind for Speculation {
    const NAME: &'static str = "speculation control";
    const MOVES: &'static str = "store bypass, indirect branches, L1D flush, where a thread has chosen";
    type Image = [u64; 3];
    type Asked = [Ticket; 3];

    fn ask(batch: &mut Batch) -> [Ticket; 3] {
        MISFEATURES.map(|(which, _)| {
            let which = which.into();
            batch.call(libc::SYS_prctl, [libc::PR_GET_SPECULATION_CTRL.into(), which, 0.into(), 0.into(), 0.into()])
        })
    }

    fn answer(asked: &[Ticket; 3], results: &Results, _from: &FrozenThread) -> Result<[u64; 3]> {
        let mut wanted = [0; 3];
        for ((wanted, (_, usual)), ticket) in wanted.iter_mut().zip(MISFEATURES).zip(asked) {
            // An error: this kernel or CPU knows nothing of it. Not per thread: as the host has it.
            let state = results.value(*ticket).unwrap_or(0);
            if state & PER_THREAD != 0 && state != PER_THREAD | usual {
                *wanted = state & !PER_THREAD;
            }
        }
        Ok(wanted)
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<[u64; 3]> {
        (record.unusual & TRAPS == 0 && record.atomic_flags & RECORDED == 0).then_some([0; 3])
    }

    fn restore(image: &[u64; 3], batch: &mut Batch) {
        for ((which, _), &state) in MISFEATURES.into_iter().zip(image) {
            if state != 0 {
                let (which, state) = (which.into(), state.into());
                batch.must(libc::SYS_prctl, [libc::PR_SET_SPECULATION_CTRL.into(), which, state, 0.into(), 0.into()]);
            }
        }
    }
}
