//! The thread's name (PR_SET_NAME): up to 15 bytes, any but NUL.

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is the 16 bytes of comm.
pub enum Name {}

impl TaskKind for Name {
    const NAME: &'static str = "thread name";
    const MOVES: &'static str = "of each thread";
    const SETTABLE_AGAIN: bool = true;
    type Image = [u8; 16];
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let place = batch.buffer(16);
        batch.must(libc::SYS_prctl, [libc::PR_GET_NAME.into(), place.into()]);
        place
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<[u8; 16]> {
        let mut name = [0; 16];
        name.iter_mut().zip(results.buffer(*asked)).for_each(|(to, from)| *to = *from);
        Ok(name)
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<[u8; 16]> {
        // What is behind the NUL, prctl does not show.
        let end = record.name.iter().position(|b| *b == 0).unwrap_or(15);
        let mut name = [0; 16];
        name[..end].copy_from_slice(&record.name[..end]);
        Some(name)
    }

    fn restore(image: &[u8; 16], batch: &mut Batch) {
        let mut name = *image;
        name[15] = 0;
        let name = batch.bytes(&name);
        batch.must(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.into()]);
    }
}
