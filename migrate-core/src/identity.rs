//! Whether a file is the same on both hosts.
//!
//! What a process has open or mapped is not sent: the file is opened at the destination. So it must be the
//! same one there, or the process would run on other bytes than it began with.
//!
//! Size and modification time decide for nearly all files and cost one stat each. Where the sizes are equal and
//! the times are not (the same package installed on two days), the content decides: by its build-id for an ELF
//! file that has one, by a digest of all its bytes otherwise. Only for these does either side read anything
//! ([`needs_content`]).

mod content;

pub use content::DigestCache;

use bincode::{Decode, Encode};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What a host says of one of its files.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FileIdentity {
    /// Its path, as the process knows it.
    pub path: Vec<u8>,
    /// What it is. Symbolic links are followed.
    pub kind: Kind,
    /// Bytes in a regular file; 0 for anything else.
    pub size: u64,
    /// When a regular file was last modified, in nanoseconds since 1970; 0 for anything else.
    pub mtime_ns: i128,
    /// The build-id of an ELF file that has one, if its content was read.
    pub build_id: Option<Vec<u8>>,
    /// BLAKE3 of all bytes of a file without a build-id, if its content was read.
    pub digest: Option<[u8; 32]>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// Nothing. First, because a run of zero bytes reads as this: it is refused.
    Missing,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice {
        /// Its number, as in `st_rdev`.
        rdev: u64,
    },
    /// A block device.
    BlockDevice {
        /// Its number, as in `st_rdev`.
        rdev: u64,
    },
    /// A named pipe.
    NamedPipe,
    /// A socket with a path.
    Socket,
}

/// How much of a file to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Kind, size and modification time.
    Stat,
    /// The build-id or the digest of a regular file besides. Reads the whole file where it has no build-id.
    Content,
}

/// Looks at what `path` leads to; [`Kind::Missing`] when that is nothing.
///
/// Opens no device, pipe or socket.
///
/// # Errors
/// When the path cannot be examined or the file not be read, or when it changes while it is read; each names
/// the path.
pub fn read_identity(path: &Path, depth: Depth, cache: &mut DigestCache) -> io::Result<FileIdentity> {
    // O_PATH looks a file up without opening it: a pipe would block, a device might act.
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(path);
    match opened {
        Ok(file) => read_file_identity(&file, path, depth, cache),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(FileIdentity::bare(path, Kind::Missing))
        }
        Err(error) => Err(on(path, error)),
    }
}

/// Looks at an open file, in whatever mode (O_PATH too), that the process knows as `path`. The offset of
/// `file` stays where it is.
///
/// # Errors
/// As for [`read_identity`].
pub fn read_file_identity(file: &File, path: &Path, depth: Depth, cache: &mut DigestCache) -> io::Result<FileIdentity> {
    let metadata = file.metadata().map_err(|error| on(path, error))?;
    let kind = kind_of(&metadata)
        .ok_or_else(|| on(path, io::Error::new(io::ErrorKind::InvalidData, "a file of an unknown kind")))?;
    let mut identity = FileIdentity::bare(path, kind);
    if kind == Kind::Regular {
        identity.size = metadata.len();
        identity.mtime_ns = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
        if depth == Depth::Content {
            let content = cache.read(file, &metadata).map_err(|error| on(path, error))?;
            identity.build_id = content.build_id;
            identity.digest = content.digest;
        }
    }
    Ok(identity)
}

impl FileIdentity {
    fn bare(path: &Path, kind: Kind) -> Self {
        Self { path: path.as_os_str().as_bytes().to_vec(), kind, size: 0, mtime_ns: 0, build_id: None, digest: None }
    }
}

fn on(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

fn kind_of(metadata: &Metadata) -> Option<Kind> {
    let file_type = metadata.file_type();
    let rdev = metadata.rdev();
    Some(if file_type.is_file() {
        Kind::Regular
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_char_device() {
        Kind::CharDevice { rdev }
    } else if file_type.is_block_device() {
        Kind::BlockDevice { rdev }
    } else if file_type.is_fifo() {
        Kind::NamedPipe
    } else if file_type.is_socket() {
        Kind::Socket
    } else {
        return None;
    })
}

/// How a file at the destination is not the one here. Reads on from the file's name: `/etc/app.conf` …
/// `is missing there`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There is none, there.
    Missing,
    /// There is none here, any more.
    MissingHere,
    /// It is something else there.
    Kind {
        /// What it is here.
        here: Kind,
        /// What it is there.
        there: Kind,
    },
    /// The sizes differ, in bytes.
    Size {
        /// The size here.
        here: u64,
        /// The size there.
        there: u64,
    },
    /// The build-ids differ; `None` where the file has none.
    BuildId {
        /// The one here.
        here: Option<Vec<u8>>,
        /// The one there.
        there: Option<Vec<u8>>,
    },
    /// The digests differ.
    Digest {
        /// The one here.
        here: [u8; 32],
        /// The one there.
        there: [u8; 32],
    },
    /// The modification times differ, and the content of one of them was not read: see [`needs_content`].
    NotCompared,
}

/// Whether the content must be read on both hosts to tell whether the files are the same.
pub fn needs_content(here: &FileIdentity, there: &FileIdentity) -> bool {
    (here.kind, there.kind) == (Kind::Regular, Kind::Regular)
        && here.size == there.size
        && here.mtime_ns != there.mtime_ns
}

/// Compares what two hosts say of one file. The paths are not compared.
///
/// # Errors
/// How they differ.
pub fn compare(here: &FileIdentity, there: &FileIdentity) -> Result<(), Difference> {
    match (here.kind, there.kind) {
        (Kind::Missing, _) => return Err(Difference::MissingHere),
        (_, Kind::Missing) => return Err(Difference::Missing),
        (mine, theirs) if mine != theirs => {
            return Err(Difference::Kind { here: mine, there: theirs });
        }
        _ => {}
    }
    if here.size != there.size {
        return Err(Difference::Size { here: here.size, there: there.size });
    }
    if !needs_content(here, there) {
        return Ok(());
    }
    let read = |file: &FileIdentity| file.build_id.is_some() || file.digest.is_some();
    if !read(here) || !read(there) {
        return Err(Difference::NotCompared);
    }
    match (&here.build_id, &there.build_id, here.digest, there.digest) {
        (None, None, Some(mine), Some(theirs)) if mine == theirs => Ok(()),
        (None, None, Some(mine), Some(theirs)) => Err(Difference::Digest { here: mine, there: theirs }),
        (Some(mine), Some(theirs), ..) if mine == theirs => Ok(()),
        (mine, theirs, ..) => Err(Difference::BuildId { here: mine.clone(), there: theirs.clone() }),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "is missing there"),
            Self::MissingHere => write!(f, "is missing here"),
            Self::Kind { here, there } => match (device_number(*here), device_number(*there)) {
                (Some(mine), Some(theirs)) if here.noun() == there.noun() => {
                    write!(f, "is another device there ({mine} here, {theirs} there)")
                }
                _ => write!(f, "is {} there", there.noun()),
            },
            Self::Size { here, there } => write!(f, "differs ({here} bytes here, {there} there)"),
            Self::BuildId { here, there } => write!(
                f,
                "differs (build-id {} here, {} there)",
                beginning(here.as_deref()),
                beginning(there.as_deref())
            ),
            Self::Digest { here, there } => write!(
                f,
                "differs (same size, content differs: blake3 {} here, {} there)",
                beginning(Some(here)),
                beginning(Some(there))
            ),
            Self::NotCompared => write!(f, "was modified at another time there, and its content was not compared"),
        }
    }
}

impl std::error::Error for Difference {}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::CharDevice { .. } => "a character device",
            Self::BlockDevice { .. } => "a block device",
            Self::NamedPipe => "a named pipe",
            Self::Socket => "a socket",
        }
    }
}

fn device_number(kind: Kind) -> Option<String> {
    match kind {
        Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } => {
            Some(format!("{}:{}", nix::libc::major(rdev), nix::libc::minor(rdev)))
        }
        _ => None,
    }
}

/// The first bytes in hexadecimal: enough to see that two are not the same.
fn beginning(bytes: Option<&[u8]>) -> String {
    const SHOWN: usize = 4;
    let Some(bytes) = bytes else {
        return "none".into();
    };
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
