//! How late the thread lets its timers be, in nanoseconds (PR_SET_TIMERSLACK).

use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results, Ticket};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is the value.
pub enum TimerSlack {}

impl TaskKind for TimerSlack {
    const NAME: &'static str = "timer slack";
    const MOVES: &'static str = "of each thread";
    const SETTABLE_AGAIN: bool = true;
    type Image = u64;
    type Asked = Ticket;

    fn ask(batch: &mut Batch) -> Ticket {
        batch.must(libc::SYS_prctl, [libc::PR_GET_TIMERSLACK.into(), 0.into(), 0.into(), 0.into(), 0.into()])
    }

    fn answer(asked: &Ticket, results: &Results, _from: &FrozenThread) -> Result<u64> {
        results.value(*asked).map_err(|e| Error::io("read it".into(), e.into()))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<u64> {
        Some(record.timer_slack)
    }

    fn restore(image: &u64, batch: &mut Batch) {
        batch.must(libc::SYS_prctl, [libc::PR_SET_TIMERSLACK.into(), (*image).into(), 0.into(), 0.into(), 0.into()]);
    }
}
