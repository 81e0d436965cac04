//! The execution domain and its flags, such as ADDR_NO_RANDOMIZE (personality(2)).

use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results, Ticket};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is the value.
pub enum Personality {}

impl TaskKind for Personality {
    const NAME: &'static str = "execution domain";
    const MOVES: &'static str = "personality(2)";
    const SETTABLE_AGAIN: bool = true;
    type Image = u64;
    type Asked = Ticket;

    fn ask(batch: &mut Batch) -> Ticket {
        batch.must(libc::SYS_personality, [0xffff_ffffu64.into()])
    }

    fn answer(asked: &Ticket, results: &Results, _from: &FrozenThread) -> Result<u64> {
        results.value(*asked).map_err(|e| Error::io("read it".into(), e.into()))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<u64> {
        Some(record.personality.into())
    }

    fn restore(image: &u64, batch: &mut Batch) {
        batch.must(libc::SYS_personality, [(*image).into()]);
    }
}
