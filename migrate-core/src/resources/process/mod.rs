//! What belongs to the process as a whole.

pub mod adjustments;
pub mod attributes;
pub mod cpu_time;
pub mod file_locks;
mod handlers;
mod interval_timers;
pub mod job_control;
pub mod late_signals;
pub mod limits;
pub mod lock_future;
pub mod memory_map;
pub mod message_queues;
pub mod posix_timers;
pub mod semaphores;
pub mod surroundings;
pub mod sysv_ipc;

use bincode::{Decode, Encode};

use super::task_kinds;
use super::thread::ProcessSignals;
use super::thread::confinement::Confinements;

task_kinds! {
    /// What calls inside the process read and set.
    ProcessCalls, ProcessQuestions {
        /// What each signal does.
        handlers: handlers::Handlers,
        /// setitimer's three timers.
        interval_timers: interval_timers::IntervalTimers,
        /// Signals sent to the process that wait.
        pending_signals: ProcessSignals,
        /// What prctl knows of the process.
        attributes: attributes::Attributes,
    }
}

/// A process's state as it travels, threads and descriptors apart.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ProcessState {
    /// Code, data, break, stack, arguments, environment, executable.
    pub memory_map: memory_map::MemoryMap,
    /// Working directory, root, umask.
    pub surroundings: surroundings::Surroundings,
    /// Whether later mappings are locked.
    pub lock_future: lock_future::LockFuture,
    /// What files of /proc set.
    pub adjustments: adjustments::Adjustments,
    /// Resource limits.
    pub limits: limits::Limits,
    /// Whether it is stopped.
    pub job_control: job_control::JobControl,
    /// What it has used. None: not known, or of no use there.
    pub cpu_times: Option<cpu_time::CpuTimes>,
    /// Timers of timer_create.
    pub posix_timers: posix_timers::PosixTimers,
    /// Seccomp, of all threads.
    pub confinements: Confinements,
    /// What is read and set from inside.
    pub calls: ProcessCalls,
}
