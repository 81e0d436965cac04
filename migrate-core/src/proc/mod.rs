//! What the kernel tells about a process in `/proc/PID`.
//!
//! Every file has a `parse_*` function that takes bytes and touches nothing, and a `read_*` function that
//! reads the file and calls it. Names and paths stay bytes: on Linux they are any bytes but NUL, and a lossy
//! conversion would name another file.
//!
//! The texts are untrusted: a process picks its own name, its file names and its mappings' names. No input
//! makes a parser panic, and none allocates more than a small multiple of the input's length.

pub mod auxv;
pub mod fdinfo;
pub mod limits;
pub mod link;
pub mod listing;
pub mod maps;
pub mod mountinfo;
pub mod process;
pub mod smaps;
pub mod stat;
pub mod status;
pub mod syscall;
pub mod sysvipc;
mod text;
pub mod timer_list;
pub mod timers;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a text of `/proc` could not be understood, without the name of its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A file of `/proc` that could not be read or understood: `/proc/4242/stat: field 22 is not a number`.
///
/// The `read_*` functions return it inside an [`io::Error`]: of the kind of the failed call, or
/// [`io::ErrorKind::InvalidData`] for a text that was not understood.
#[derive(Debug)]
pub struct FileError {
    /// The file or folder in `/proc`.
    pub path: PathBuf,
    /// What went wrong with it.
    pub cause: FileErrorCause,
}

/// What went wrong with a file of `/proc`.
#[derive(Debug)]
pub enum FileErrorCause {
    /// It could not be opened or read.
    Io(io::Error),
    /// Its text was not understood.
    Malformed(Malformed),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.cause {
            FileErrorCause::Io(cause) => cause.fmt(f),
            FileErrorCause::Malformed(cause) => cause.fmt(f),
        }
    }
}

// No `source`: the message already holds the cause, and a printed chain would say it twice.
impl std::error::Error for FileError {}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        let kind = match &error.cause {
            FileErrorCause::Io(cause) => cause.kind(),
            FileErrorCause::Malformed(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// Whether a `read_*` function failed because the process, the thread or the descriptor is gone.
///
/// `/proc` says ENOENT when the name is looked up too late, ESRCH when the task ends between opening and
/// reading (fs/proc/base.c).
pub fn is_gone(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<FileError>());
    let errno = match inner {
        Some(FileError { cause: FileErrorCause::Io(cause), .. }) => cause.raw_os_error(),
        Some(_) => None,
        None => error.raw_os_error(),
    };
    matches!(errno, Some(code) if code == nix::libc::ENOENT || code == nix::libc::ESRCH)
}

fn failed(path: impl Into<PathBuf>, cause: io::Error) -> io::Error {
    FileError { path: path.into(), cause: FileErrorCause::Io(cause) }.into()
}

/// Reads the whole of a `/proc` file.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // A page at once: with an empty buffer the standard library would begin with a read of 32 bytes.
    let mut bytes = Vec::with_capacity(4096);
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|cause| failed(path, cause))?;
    Ok(bytes)
}

fn read_parsed<T>(path: String, parse: impl FnOnce(&[u8]) -> Result<T, Malformed>) -> io::Result<T> {
    let bytes = read_bytes(Path::new(&path))?;
    parse(&bytes).map_err(|cause| FileError { path: path.into(), cause: FileErrorCause::Malformed(cause) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file() {
        let error = read_parsed("/proc/self/stat".into(), |_| Err::<(), _>(Malformed::new("field 22 is not a number")))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "/proc/self/stat: field 22 is not a number");
        assert!(!is_gone(&error));
    }

    #[test]
    fn a_missing_process_is_gone() {
        // PID 0 is never in /proc.
        let error = stat::read_stat(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/proc/0/stat: "));
        assert!(is_gone(&error));
    }
}
