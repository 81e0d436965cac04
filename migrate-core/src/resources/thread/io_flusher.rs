//! Whether the thread's allocations may not wait for I/O, because it is a part of it (PR_SET_IO_FLUSHER of prctl(2)). Reading and
//! setting it takes CAP_SYS_RESOURCE: a thread without that does not have it.

use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results, Ticket};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image: whether it is so.
pub enum IoFlusher {}

const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;
/// PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE of `task_struct.flags` (linux/sched.h).
const RECORDED: u32 = 0x0018_0000;

impl TaskKind for IoFlusher {
    const NAME: &'static str = "I/O flusher";
    const MOVES: &'static str = "PR_SET_IO_FLUSHER";
    type Image = bool;
    type Asked = Ticket;

    fn ask(batch: &mut Batch) -> Ticket {
        batch.call(libc::SYS_prctl, [PR_GET_IO_FLUSHER.into(), 0.into(), 0.into(), 0.into(), 0.into()])
    }

    fn answer(asked: &Ticket, results: &Results, _from: &FrozenThread) -> Result<bool> {
        Ok(results.value(*asked) == Ok(1))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<bool> {
        Some(record.flags & RECORDED == RECORDED)
    }

    fn restore(&image: &bool, batch: &mut Batch) {
        if image {
            batch.must(libc::SYS_prctl, [PR_SET_IO_FLUSHER.into(), 1.into(), 0.into(), 0.into(), 0.into()]);
        }
    }
}
