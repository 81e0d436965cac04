//! The word that the kernel clears, and the futex that it wakes, when the thread ends: what pthread_join waits on
//! (set_tid_address(2); read with PR_GET_TID_ADDRESS).

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is the address, 0 for none.
pub enum ClearChildTid {}

impl TaskKind for ClearChildTid {
    const NAME: &'static str = "clear_child_tid";
    const MOVES: &'static str = "the address: pthread_join works after the move";
    const SETTABLE_AGAIN: bool = true;
    type Image = u64;
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let place = batch.buffer(8);
        batch.must(libc::SYS_prctl, [libc::PR_GET_TID_ADDRESS.into(), place.into()]);
        place
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<u64> {
        Ok(results.word(*asked, 0))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<u64> {
        Some(record.clear_child_tid)
    }

    fn restore(image: &u64, batch: &mut Batch) {
        batch.must(libc::SYS_set_tid_address, [(*image).into()]);
    }
}
