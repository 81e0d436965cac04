//! Job control: whether the process is stopped (by SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU), and a SIGCONT that nobody has taken yet.
//!
//! The kernel keeps a stopped process so while it is traced: let go of, it stops again. Neither SIGSTOP nor SIGCONT can be sent to the
//! new process with the other pending signals: the SIGSTOP that pins it would take a SIGCONT back. Lost: which signal stopped it, and
//! who sent the SIGCONT.

use bincode::{Decode, Encode};
use migrate_linux::libc;

use crate::resources::Row;
use crate::resources::thread::QueuedSignals;

/// What of it moves.
pub const ROW: Row =
    ("job control", "a stopped process arrives stopped, and goes on when it gets SIGCONT; a SIGCONT that waits");

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub struct JobControl {
    /// It is stopped.
    pub stopped: bool,
    /// A SIGCONT waits. Then it is not stopped.
    pub continued: bool,
}

impl JobControl {
    /// Of a process that was stopped or not, with what has been sent since: taken out of the queues.
    pub fn take_out<'q>(stopped: bool, queues: impl IntoIterator<Item = &'q mut QueuedSignals>) -> JobControl {
        let mut job = JobControl { stopped, continued: false };
        for queue in queues {
            job.stopped |= queue.take_out(libc::SIGSTOP);
            job.continued |= queue.take_out(libc::SIGCONT);
        }
        // Had the SIGSTOP come later, it would have taken the SIGCONT back (`prepare_signal`, kernel/signal.c).
        job.stopped &= !job.continued;
        job
    }
}
