//! The CPU time that a process has used: to the nanosecond that of each thread, of the threads that have ended and of the children that
//! it has waited for, and how getrusage(2) has divided that. Read with the threads, when they stand; set by the kernel module alone. What
//! is done in the new process until it runs is not counted, but for its last microseconds.
//!
//! Without, it begins at 0 over there. What has been used is then taken off RLIMIT_CPU ([`super::limits`]).

use std::collections::HashMap;

use bincode::{Decode, Encode};
use migrate_linux::kernel_module::KernelModule;
use migrate_linux::kernel_module::uapi::{CpuTime, ProcessTime};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, Row};

/// What of it moves.
pub const ROW: Row = (
    "CPU time",
    "of the process, each thread and ended children: CPU-time clocks, getrusage, times; with the kernel module there, and that or BPF here; \
     else begins at 0. Timers of it expire when they would have",
);

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CpuTimes {
    process: [u64; 7],
    /// In the order in which the threads travel; and behind them of the first one, if that has ended: it counts as long as others go on.
    threads: Vec<[u64; 5]>,
}

/// Whether this host can set it.
pub fn can_be_set() -> bool {
    KernelModule::open().is_ok_and(|module| module.sets_cpu_time())
}

/// Of all these threads, which stand, and of the `ended` one, as `read` tells it: once, or again when they have left their CPUs. None: it
/// does not tell of one.
pub fn capture(
    threads: &[FrozenThread],
    ended: Option<i32>,
    mut records: Vec<ThreadRecord>,
    read: impl FnOnce() -> Result<Vec<ThreadRecord>>,
) -> Result<Option<CpuTimes>> {
    let by_tid = |records: &[ThreadRecord]| -> HashMap<i32, Option<CpuTime>> {
        records.iter().map(|record| (record.seen_tid, record.cpu_time())).collect()
    };
    let mut told = by_tid(&records);
    let mut late =
        threads.iter().map(|thread| &thread.stopped).filter(|t| told.get(&t.tid()) == Some(&None)).peekable();
    if late.peek().is_some() {
        late.try_for_each(Stopped::leave_cpu)?;
        records = read()?;
        told = by_tid(&records);
    }
    let words = |tid: i32| Some((*told.get(&tid)?)?.to_words());
    let threads: Option<Vec<_>> = threads.iter().map(|thread| thread.stopped.tid()).chain(ended).map(words).collect();
    let process = records.first().map(|record| record.process_time().to_words());
    Ok(threads.zip(process).map(|(threads, process)| CpuTimes { process, threads }))
}

impl CpuTimes {
    /// Sets it in a new process, of which these are the threads, as they travel, and behind them the first one if it is to end.
    pub fn restore(&self, threads: &[&mut Stopped], module: Option<&KernelModule>) -> Result<()> {
        if threads.len() != self.threads.len() {
            return Err(Error::Invalid("the CPU time of other threads than there are".into()));
        }
        let module = module.ok_or_else(|| {
            Error::Refused(vec!["the kernel module, which is to set its CPU time, has been unloaded; try again".into()])
        })?;
        let used = self.threads.iter().copied().map(CpuTime::from_words);
        let threads: Vec<(&Stopped, CpuTime)> = threads.iter().map(|thread| &**thread).zip(used).collect();
        Ok(module.set_cpu_time(&threads, ProcessTime::from_words(self.process))?)
    }
}
