//! The list of robust futexes that the kernel walks when the thread ends (get_robust_list(2)).

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is the head's address and the length that was registered.
pub enum RobustList {}

impl TaskKind for RobustList {
    const NAME: &'static str = "robust futex list";
    const MOVES: &'static str = "head and length: an owner's death is told";
    type Image = (u64, u64);
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let places = batch.buffer(16);
        let length = places.skip(8);
        batch.must(libc::SYS_get_robust_list, [0.into(), places.into(), length.into()]);
        places
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<(u64, u64)> {
        Ok((results.word(*asked, 0), results.word(*asked, 8)))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<(u64, u64)> {
        // No other length can be registered.
        Some((record.robust_list, 24))
    }

    fn restore(&(head, length): &(u64, u64), batch: &mut Batch) {
        if head != 0 {
            batch.must(libc::SYS_set_robust_list, [head.into(), length.into()]);
        }
    }
}
