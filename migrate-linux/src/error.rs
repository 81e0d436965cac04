//! What goes wrong at the kernel's interface.

use std::io;

use nix::errno::Errno;

/// An error of a traced thread, a remote system call or a new process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A ptrace request or a wait failed.
    #[error("{what} of thread {tid}: {source}")]
    Tracee {
        /// What was asked.
        what: &'static str,
        /// Of which thread.
        tid: i32,
        /// The kernel's answer.
        source: Errno,
    },
    /// The thread ended while it was traced.
    #[error("thread {tid} ended meanwhile ({how})")]
    Gone {
        /// Which thread.
        tid: i32,
        /// Exit status or signal.
        how: String,
    },
    /// The thread stands at the beginning of its end, and can only go on with that.
    #[error("thread {tid} is ending")]
    Ends {
        /// Which thread.
        tid: i32,
    },
    /// The thread stopped where it should not.
    #[error("thread {tid} stopped unexpectedly: {what}")]
    UnexpectedStop {
        /// Which thread.
        tid: i32,
        /// How it stopped.
        what: String,
    },
    /// A system call that ran inside the tracee failed.
    #[error("{call} in process {pid}: {source}")]
    Remote {
        /// The call with its arguments.
        call: String,
        /// In which process.
        pid: i32,
        /// The kernel's answer.
        source: Errno,
    },
    /// A system call of this process on behalf of another failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something that this code does not do, or a batch that is too large.
    #[error("{0}")]
    Unsupported(String),
}

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Names what was tried when an operation on the tracee's behalf fails.
pub trait Context<T> {
    /// Says what was tried.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
