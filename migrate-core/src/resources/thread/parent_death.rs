//! The signal that a thread gets when its parent ends (PR_SET_PDEATHSIG of prctl(2)). The parent stays behind, and the process that
//! made the new one here ends at once: set again, the signal would come at once too. So it is a loss, and named.

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is the signal, 0 for none.
pub enum ParentDeath {}

impl TaskKind for ParentDeath {
    const NAME: &'static str = "parent-death signal";
    const MOVES: &'static str = "does not, because the parent stays; a warning";
    const SETTABLE_AGAIN: bool = true;
    type Image = i32;
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let place = batch.buffer(8);
        batch.must(libc::SYS_prctl, [libc::PR_GET_PDEATHSIG.into(), place.into()]);
        place
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<i32> {
        Ok(results.word(*asked, 0) as i32)
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<i32> {
        Some(record.parent_death_signal)
    }

    fn restore(_image: &i32, _batch: &mut Batch) {}
}

/// Adds the call for the first thread, which has SIGKILL while it is made, so that it cannot outlive who makes it.
pub fn clear(batch: &mut Batch) {
    batch.must(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), 0.into()]);
}

/// What is to be said when a thread had one.
pub fn loss(images: impl IntoIterator<Item = i32>) -> Option<String> {
    let signal = images.into_iter().find(|signal| *signal != 0)?;
    Some(format!(
        "its parent stays behind, so the signal {signal} that it wants at its end (PR_SET_PDEATHSIG) will not come"
    ))
}
