//! Signals that were sent and not yet taken, with everything that came with them (`siginfo_t`), in their order: those of one
//! thread and those of the process. Read without taking them (PTRACE_PEEKSIGINFO); queued again by the new thread itself, which
//! alone may use the kernel's own si_codes (rt_sigqueueinfo(2)). Those of POSIX timers are not among them: the timers send them
//! again ([`posix_timers`](crate::resources::process::posix_timers)). Nor are SIGSTOP and SIGCONT
//! ([`job_control`](crate::resources::process::job_control)).

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::{RawSiginfo, SIGINFO_SIZE, Stopped};

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// A queue, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct QueuedSignals {
    /// Raw `siginfo_t`s.
    pub signals: Vec<[u8; SIGINFO_SIZE]>,
    /// The process, in its own PID namespace: there and here the same number.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
}

impl QueuedSignals {
    /// Takes out all of this number; whether there were any.
    pub fn take_out(&mut self, signal: i32) -> bool {
        let before = self.signals.len();
        self.signals.retain(|info| signal_number(info) != signal);
        self.signals.len() < before
    }
}

/// A word of a `siginfo_t`.
fn word(info: &RawSiginfo, at: usize) -> i32 {
    info.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes)
}

/// Which signal it is.
pub fn signal_number(info: &RawSiginfo) -> i32 {
    word(info, 0)
}

/// Who sent it, or why (sigaction(2), si_code).
pub fn code(info: &RawSiginfo) -> i32 {
    const SI_CODE: usize = 8;
    word(info, SI_CODE)
}

/// The ID of the POSIX timer that sent it, if one did.
pub fn timer_that_sent(info: &RawSiginfo) -> Option<i32> {
    const SI_TIMER: i32 = -2;
    const SI_TIMERID: usize = 16;
    (code(info) == SI_TIMER).then(|| word(info, SI_TIMERID))
}

/// Those of one thread, and the one that a batch in it took by accident.
pub enum ThreadSignals {}

impl TaskKind for ThreadSignals {
    const NAME: &'static str = "pending signals of a thread";
    const MOVES: &'static str = "in their order, real-time ones too, each with its siginfo";
    const SETTABLE_AGAIN: bool = true;
    type Image = QueuedSignals;
    type Asked = ();

    fn ask(_batch: &mut Batch) {}

    fn answer(_asked: &(), _results: &Results, from: &FrozenThread) -> Result<QueuedSignals> {
        let mut signals = from.stopped.pending_signals(false)?;
        signals.extend(from.stopped.owed_signal());
        signals.retain(|info| timer_that_sent(info).is_none());
        Ok(QueuedSignals { signals, pid: from.pid, tid: from.tid })
    }

    fn recorded(record: &ThreadRecord, stopped: Option<&Stopped>) -> Option<QueuedSignals> {
        let none = record.pending == 0 && stopped.is_none_or(|stopped| stopped.owed_signal().is_none());
        none.then(|| QueuedSignals { signals: Vec::new(), pid: record.pid, tid: record.tid })
    }

    fn restore(image: &QueuedSignals, batch: &mut Batch) {
        for info in &image.signals {
            let bytes = batch.bytes(info);
            let signal = signal_number(info);
            batch.must(libc::SYS_rt_tgsigqueueinfo, [image.pid.into(), image.tid.into(), signal.into(), bytes.into()]);
        }
    }
}

/// Those of the process.
pub enum ProcessSignals {}

impl TaskKind for ProcessSignals {
    const NAME: &'static str = "pending signals of the process";
    const MOVES: &'static str =
        "the same, those sent to the process as a whole; what is sent to it on its way arrives there, once";
    type Image = QueuedSignals;
    type Asked = ();

    fn ask(_batch: &mut Batch) {}

    fn answer(_asked: &(), _results: &Results, from: &FrozenThread) -> Result<QueuedSignals> {
        let mut signals = from.stopped.pending_signals(true)?;
        signals.retain(|info| timer_that_sent(info).is_none());
        Ok(QueuedSignals { signals, pid: from.pid, tid: from.pid })
    }

    fn restore(image: &QueuedSignals, batch: &mut Batch) {
        for info in &image.signals {
            let bytes = batch.bytes(info);
            batch.must(libc::SYS_rt_sigqueueinfo, [image.pid.into(), signal_number(info).into(), bytes.into()]);
        }
    }
}
