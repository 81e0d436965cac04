//! What a process owns, one file per kind: how it is recognised, captured and restored, side by side.
//!
//! Two traits, because the two sorts are reached in different ways:
//!
//! - [`file::FileKind`]: an open file description. The agent holds a duplicate of it (pidfd_getfd), reads it in plain Rust,
//!   and makes its counterpart in plain Rust too.
//! - [`TaskKind`]: something bound to a thread or a process, that only calls made *inside* it can read or set. The calls of
//!   all kinds go in one batch, so capturing is two steps: ask (add calls), answer (read what they returned).
//!
//! A kind is one file and one line in its sort's table.

pub mod file;
pub mod process;
pub mod thread;
pub mod what_moves;

use std::fmt::Debug;

use bincode::{Decode, Encode};
use migrate_linux::remote::{Batch, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::proc::status::Status;
use crate::resources::thread::CredentialsImage;
use crate::resources::thread::scheduling::Defaults;

/// A line of the README's table: the name of a kind, and what of it moves.
pub type Row = (&'static str, &'static str);

/// What preflight says of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It moves.
    Supported,
    /// It moves, but something of it is lost.
    With(String),
    /// It does not move; why, and what to do about it.
    Unsupported(String),
}

/// A thread of the frozen process.
#[derive(Debug)]
pub struct FrozenThread {
    /// It.
    pub stopped: Stopped,
    /// Its process's ID in its own PID namespace.
    pub pid: i32,
    /// Its ID in its own PID namespace.
    pub tid: i32,
    /// What else is known of it without asking it.
    pub shown: Shown,
}

/// What the kernel shows of a stopped thread from outside.
#[derive(Debug)]
pub struct Shown {
    /// Signals that were sent to it or to its process and not taken yet; bit n-1 is signal n.
    pub pending: u64,
    /// Seccomp: 0 none, 1 strict, 2 filters.
    pub seccomp: u32,
    /// Who it is. Text does not show securebits.
    pub credentials: CredentialsImage,
    /// All that the probe tells; None: there is no probe.
    pub record: Option<ThreadRecord>,
}

impl Shown {
    /// By `/proc/PID/task/TID/status`.
    pub fn by_text(status: &Status) -> Shown {
        Shown {
            pending: status.sig_pending | status.shared_pending,
            seccomp: status.seccomp.unwrap_or(0),
            credentials: CredentialsImage::shown_by(status),
            record: None,
        }
    }

    /// By the probe. None: not all of it fits in a record.
    pub fn by_record(record: ThreadRecord) -> Option<Shown> {
        Some(Shown {
            pending: record.pending | record.shared_pending,
            seccomp: record.seccomp,
            credentials: CredentialsImage::recorded(&record)?,
            record: Some(record),
        })
    }
}

/// Something bound to a thread, or to a process (then it is captured and restored in the first thread).
pub trait TaskKind {
    /// Its name in messages and tables.
    const NAME: &'static str;
    /// What of it moves, for the table in the README.
    const MOVES: &'static str;
    /// Whether it can be set again to any other value by the same calls.
    const SETTABLE_AGAIN: bool = false;
    /// What travels.
    type Image: Encode + Decode<()> + Clone + Debug + PartialEq;
    /// What connects the calls asked for with their answers.
    type Asked;

    /// Adds the calls that read it.
    fn ask(batch: &mut Batch) -> Self::Asked;
    /// Reads what they returned. Err: it cannot move, and why.
    fn answer(asked: &Self::Asked, results: &Results, from: &FrozenThread) -> Result<Self::Image>;
    /// What the probe's record of a thread tells of it, or the tracer, if it stands. None: it has to be asked.
    fn recorded(_record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<Self::Image> {
        None
    }
    /// Adds the calls that set it in the new thread. They must succeed, or it is refused.
    fn restore(image: &Self::Image, batch: &mut Batch);
    /// Sets what can be set from outside, by the new thread's ID as the agent sees it. Runs before `restore`'s calls.
    fn restore_outside(_image: &Self::Image, _tid: i32, _outside: &mut Outside) -> Result<()> {
        Ok(())
    }
}

/// What is known when new threads are given something from outside.
#[derive(Debug, Default)]
pub struct Outside {
    /// Of the host that they come from.
    pub origin: Defaults,
    /// Of this one.
    pub here: Defaults,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

impl Outside {
    /// Many threads may have the same to say.
    pub fn warn(&mut self, what: String) {
        if !self.warnings.contains(&what) {
            self.warnings.push(what);
        }
    }
}

/// Makes the table of one sort of task kinds: the state that travels, and what goes over all kinds in the table's order.
macro_rules! task_kinds {
    ($(#[$doc:meta])* $State:ident, $Asked:ident { $($(#[$field_doc:meta])* $field:ident: $Kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
        pub struct $State {
            $($(#[$field_doc])* pub $field: <$Kind as $crate::resources::TaskKind>::Image,)*
        }

        /// The questions whose answers make the state.
        pub struct $Asked {
            $($field: <$Kind as $crate::resources::TaskKind>::Asked,)*
        }

        impl $State {
            /// The kinds' names and what of each moves, in the table's order.
            pub const KINDS: &'static [$crate::resources::Row] = &[$((
                <$Kind as $crate::resources::TaskKind>::NAME,
                <$Kind as $crate::resources::TaskKind>::MOVES,
            )),*];

            /// Adds every kind's questions.
            pub fn ask(batch: &mut migrate_linux::remote::Batch) -> $Asked {
                $Asked { $($field: <$Kind as $crate::resources::TaskKind>::ask(batch),)* }
            }

            /// Reads every answer.
            pub fn answer(
                asked: &$Asked,
                results: &migrate_linux::remote::Results,
                from: &$crate::resources::FrozenThread,
            ) -> $crate::error::Result<Self> {
                use $crate::error::Capturing;
                Ok($State {
                    $($field: <$Kind as $crate::resources::TaskKind>::answer(&asked.$field, results, from)
                        .capturing(<$Kind as $crate::resources::TaskKind>::NAME)?,)*
                })
            }

            /// Every kind as a record tells it, and the tracer of a thread that stands. None: one of them has to be asked.
            pub fn recorded(
                record: &migrate_linux::thread_probe::ThreadRecord,
                stopped: Option<&migrate_linux::tracee::Stopped>,
            ) -> Option<Self> {
                Some($State {
                    $($field: <$Kind as $crate::resources::TaskKind>::recorded(record, stopped)?,)*
                })
            }

            /// Whether this can be set where `before` has been.
            pub fn can_follow(&self, before: &Self) -> bool {
                true $(&& (self.$field == before.$field || <$Kind as $crate::resources::TaskKind>::SETTABLE_AGAIN))*
            }

            /// Adds the calls that set every kind; where `before` has been set, every one that is another now.
            pub fn restore(&self, before: Option<&Self>, batch: &mut migrate_linux::remote::Batch) {
                $(if before.is_none_or(|before| before.$field != self.$field) {
                    <$Kind as $crate::resources::TaskKind>::restore(&self.$field, batch);
                })*
            }

            /// Sets from outside what can be; where `before` has been set, what is another now.
            pub fn restore_outside(
                &self,
                before: Option<&Self>,
                tid: i32,
                outside: &mut $crate::resources::Outside,
            ) -> $crate::error::Result<()> {
                use $crate::error::Capturing;
                $(if before.is_none_or(|before| before.$field != self.$field) {
                    <$Kind as $crate::resources::TaskKind>::restore_outside(&self.$field, tid, outside)
                        .capturing(<$Kind as $crate::resources::TaskKind>::NAME)?;
                })*
                Ok(())
            }
        }
    };
}
pub(crate) use task_kinds;
