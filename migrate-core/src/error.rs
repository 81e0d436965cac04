//! What stops a migration, in words that name the object, the side, the cause and what to do.

use std::io;

use crate::protocol::connection::ConnectionError;

/// Why a migration, or a step of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot move as it is: each reason by name, with its remedy.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The destination said no; its own words.
    #[error("{host} refused {pid}: {why}")]
    RefusedThere {
        /// The destination.
        host: String,
        /// The process.
        pid: i32,
        /// The peer's reason.
        why: String,
    },
    /// The kernel's interface failed.
    #[error(transparent)]
    Linux(#[from] migrate_linux::error::Error),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
        source: io::Error,
    },
    /// A kind of thing could not be captured or restored.
    #[error("{kind}: {source}")]
    Kind {
        /// Its kind.
        kind: &'static str,
        /// Why.
        source: Box<Error>,
    },
    /// The connection to the peer failed.
    #[error("the connection to {host} failed: {source}")]
    Connection {
        /// The peer.
        host: String,
        /// How.
        source: ConnectionError,
    },
    /// The peer or an image says something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A numbered fault point fired.
    #[error("fault point {0}")]
    Fault(u32),
}

impl Error {
    /// A failed system call.
    pub fn io(what: String, source: io::Error) -> Error {
        Error::Io { what, source }
    }
}

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Says of what kind the thing was that failed.
pub trait Capturing<T> {
    /// Names the kind.
    fn capturing(self, kind: &'static str) -> Result<T>;
}

impl<T> Capturing<T> for Result<T> {
    fn capturing(self, kind: &'static str) -> Result<T> {
        self.map_err(|source| Error::Kind { kind, source: Box::new(source) })
    }
}

/// Says what was tried when a system call fails.
pub trait Doing<T> {
    /// Says what.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
