//! What belongs to each thread.

mod alternate_stack;
mod clear_child_tid;
pub mod confinement;
pub mod cpu;
mod credentials;
mod ended;
mod io_flusher;
mod name;
pub mod parent_death;
pub mod pending_signals;
mod personality;
mod robust_list;
pub mod rseq;
pub mod scheduling;
mod speculation;
mod timer_slack;
mod traps;
pub mod unmovable;
pub mod wait;
pub mod wait_end;

use bincode::{Decode, Encode};
pub use clear_child_tid::ClearChildTid;
pub use credentials::{Credentials, CredentialsImage};
pub use ended::EndedThread;
pub use pending_signals::{ProcessSignals, QueuedSignals, timer_that_sent};

use super::{Row, TaskKind, task_kinds};

/// The credentials' line of the README's table.
pub const CREDENTIALS: Row = (Credentials::NAME, Credentials::MOVES);

/// The line of a first thread that has ended.
pub const ENDED_FIRST: Row = ended::ROW;

task_kinds! {
    /// What calls inside a thread read and set, and needs no privileges.
    ThreadCalls, ThreadQuestions {
        /// Set by clone3 or set_tid_address.
        clear_child_tid: ClearChildTid,
        /// Robust futexes.
        robust_list: robust_list::RobustList,
        /// Restartable sequences.
        rseq: rseq::Rseq,
        /// The stack that its signal handlers may use.
        alternate_stack: alternate_stack::AlternateStack,
        /// comm.
        name: name::Name,
        /// Policy, nice value, affinity.
        scheduling: scheduling::Scheduling,
        /// Its execution domain.
        personality: personality::Personality,
        /// How late its timers may be.
        timer_slack: timer_slack::TimerSlack,
        /// Instructions that fault.
        traps: traps::Traps,
        /// What the CPU may not guess.
        speculation: speculation::Speculation,
        /// Whether its allocations wait for I/O.
        io_flusher: io_flusher::IoFlusher,
        /// What it gets at its parent's end.
        parent_death: parent_death::ParentDeath,
        /// Signals sent to this thread that wait.
        pending_signals: pending_signals::ThreadSignals,
    }
}

/// A thread as it travels.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ThreadState {
    /// Its ID in its own PID namespace.
    pub tid: i32,
    /// Registers and signal mask: read and set by ptrace.
    pub cpu: cpu::Cpu,
    /// The wait that it is in, if that ends and when is known.
    pub wait: Option<wait::Wait>,
    /// Who it is.
    pub credentials: CredentialsImage,
    /// The rest.
    pub calls: ThreadCalls,
}
