//! Open file descriptions: one kind, one file.
//!
//! On the source the agent takes a duplicate of each (pidfd_getfd(2)) and reads it in plain Rust; at the destination it makes
//! the counterpart in plain Rust and hands it over with SCM_RIGHTS.

mod device;
mod directory;
mod epoll;
mod eventfd;
mod pipe;
mod regular;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::remote::Batch;
use nix::sys::stat::FileStat;

use super::Verdict;
use crate::error::{Capturing, Doing, Result};
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;

/// What is known of an open file description: text of /proc, and fstat.
#[derive(Debug)]
pub struct FileView {
    /// The first descriptor that refers to it.
    pub number: i32,
    /// Where its link points.
    pub link: LinkTarget,
    /// The fdinfo of `number`: when the process stands still, as it is now.
    pub info: FdInfo,
    /// Its fstat(2): likewise.
    pub stat: FileStat,
}

impl FileView {
    /// Its file type: S_IFREG and so on.
    pub fn file_type(&self) -> u32 {
        self.stat.st_mode & nix::libc::S_IFMT
    }

    /// Its status flags and access mode, without those that matter only when opening.
    pub fn status_flags(&self) -> i32 {
        self.info.flags as i32 & !ONLY_WHEN_OPENING
    }

    /// The path of something that has one and still has it.
    pub fn path(&self) -> Option<&OsStr> {
        match &self.link {
            LinkTarget::Path { path, deleted: false } => Some(path),
            _ => None,
        }
    }
}

/// An open file description of the source process, held by a duplicate. While the process is frozen nothing moves it.
#[derive(Debug)]
pub struct HeldFile {
    /// The process, as this agent sees it.
    pub process: i32,
    /// What is known of it.
    pub view: FileView,
    /// A duplicate of it.
    pub duplicate: OwnedFd,
}

/// What the descriptions of one new process share while they are made.
#[derive(Debug)]
pub struct NewFiles {
    /// Source and destination are one machine, and see the same files.
    pub same_kernel: bool,
    /// The process stands still: what its files are now is what they must be here.
    pub frozen: bool,
    /// Pipes made so far, by their inode on the source.
    pipes: HashMap<u64, pipe::NewPipe>,
}

impl NewFiles {
    /// For one new process.
    pub fn new(same_kernel: bool, frozen: bool) -> NewFiles {
        NewFiles { same_kernel, frozen, pipes: HashMap::new() }
    }
}

/// One kind of open file description, both directions.
pub trait FileKind {
    /// Its name in messages and tables.
    const NAME: &'static str;
    /// What of it moves, for the table in the README.
    const MOVES: &'static str;
    /// What travels.
    type Image: Encode + Decode<()> + Clone + std::fmt::Debug + PartialEq;

    /// Whether it is of this kind; the kinds exclude each other.
    fn recognise(view: &FileView) -> bool;
    /// Whether it can move. Touches nothing.
    fn preflight(view: &FileView) -> Verdict;
    /// The path of the file that must be at the destination.
    fn needs(_view: &FileView) -> Option<&OsStr> {
        None
    }
    /// Reads it without changing it.
    fn capture(from: &HeldFile) -> Result<Self::Image>;
    /// Makes it at the destination.
    fn create(image: &Self::Image, new: &mut NewFiles) -> Result<OwnedFd>;
    /// Whether it may be made before the freeze, from what it was then: only where nobody can notice.
    const AHEAD: bool = false;
    /// Makes what was made from `old` what it would be from `new`. Ok(false): it must be made anew.
    fn update(_old: &Self::Image, _new: &Self::Image, _fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        Ok(false)
    }
    /// Adds the calls that tie it to other descriptors of its process, when all are in place; `number` is one of its own.
    fn connect(_image: &Self::Image, _number: i32, _batch: &mut Batch) {}
}

/// Makes the table: the image of any kind with its wire number, and the dispatch.
macro_rules! file_kinds {
    ($($Kind:ident = $module:ident,)*) => {
        /// Any open file description as it travels.
        #[derive(Debug, Clone, PartialEq, Encode, Decode)]
        pub enum FileImage {
            $(#[allow(missing_docs)] $Kind(<$module::$Kind as FileKind>::Image),)*
        }

        /// The kinds' names and what of each moves, in the table's order.
        pub const KINDS: &[(&str, &str)] = &[$((<$module::$Kind as FileKind>::NAME, <$module::$Kind as FileKind>::MOVES)),*];

        /// The name of the kind that a description is of.
        pub fn kind_of(view: &FileView) -> &'static str {
            $(if $module::$Kind::recognise(view) { return $module::$Kind::NAME; })*
            "descriptor"
        }

        /// What preflight says of a description. What no kind recognises cannot move.
        pub fn preflight(view: &FileView) -> Verdict {
            $(if $module::$Kind::recognise(view) { return $module::$Kind::preflight(view); })*
            unknown(view)
        }

        /// The path of the file that must be at the destination for it.
        pub fn needs(view: &FileView) -> Option<&OsStr> {
            $(if $module::$Kind::recognise(view) { return $module::$Kind::needs(view); })*
            None
        }

        /// Reads one.
        pub fn capture(from: &HeldFile) -> Result<FileImage> {
            $(if $module::$Kind::recognise(&from.view) {
                return $module::$Kind::capture(from).map(FileImage::$Kind).capturing($module::$Kind::NAME);
            })*
            match unknown(&from.view) {
                Verdict::Unsupported(why) => Err(crate::error::Error::Refused(vec![why])),
                _ => Err(crate::error::Error::Invalid("a descriptor of no kind".into())),
            }
        }

        /// Whether one may be made before the freeze.
        pub fn is_ahead(image: &FileImage) -> bool {
            match image {
                $(FileImage::$Kind(_) => $module::$Kind::AHEAD,)*
            }
        }

        /// Brings one up to date. Ok(false): it must be made anew.
        pub fn update(old: &FileImage, new: &FileImage, fd: &OwnedFd, files: &NewFiles) -> Result<bool> {
            match (old, new) {
                $((FileImage::$Kind(old), FileImage::$Kind(new)) => {
                    $module::$Kind::update(old, new, fd, files).capturing($module::$Kind::NAME)
                })*
                _ => Ok(false),
            }
        }

        /// Adds the calls that tie one to other descriptors.
        pub fn connect(image: &FileImage, number: i32, batch: &mut Batch) {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::connect(image, number, batch),)*
            }
        }

        /// Makes one.
        pub fn create(image: &FileImage, new: &mut NewFiles) -> Result<OwnedFd> {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::create(image, new).capturing($module::$Kind::NAME),)*
            }
        }
    };
}

// The order is the wire number: new kinds go to the end.
file_kinds! {
    Regular = regular,
    Directory = directory,
    Device = device,
    Pipe = pipe,
    EventFd = eventfd,
    Epoll = epoll,
}

fn unknown(view: &FileView) -> Verdict {
    let what = match &view.link {
        LinkTarget::Path { path, .. } => format!("{} — this kind of file", path.display()),
        LinkTarget::Socket(_) => "a socket — sockets".into(),
        LinkTarget::AnonInode(name) => format!("{} — this kind of descriptor", String::from_utf8_lossy(name)),
        LinkTarget::Memfd { name } => format!("memfd {} — memfds", String::from_utf8_lossy(name)),
        LinkTarget::Namespace { .. } => "a namespace — namespaces".into(),
        LinkTarget::Pipe(_) => "a pipe of an unknown kind".into(),
        LinkTarget::Other(text) => format!("{} — this kind of descriptor", String::from_utf8_lossy(text)),
    };
    Verdict::Unsupported(format!(
        "fd {}: {what} cannot move yet; let the program close it, or start it with standard input and output from and to files",
        view.number
    ))
}

/// Flags that act when a file is opened, or belong to a descriptor.
const ONLY_WHEN_OPENING: i32 = {
    use nix::libc::{O_CLOEXEC, O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC};
    O_CLOEXEC | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC
};

/// Opens a path of an image with the flags that the original has now.
fn open_again(path: &[u8], flags: i32) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::OsStr::from_bytes(path);
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    open(path, flags, Mode::empty()).map_err(Into::into).doing(|| format!("open {}", path.display()))
}

/// Sets the status flags that can be set on an open file.
fn set_flags(fd: &OwnedFd, flags: i32) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let set = fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags))).map_err(Into::into);
    set.doing(|| "set the flags of a descriptor".into()).map(drop)
}

/// Flags that fcntl can change later (fcntl(2), F_SETFL).
const CHANGEABLE: i32 = {
    use nix::libc::{O_APPEND, O_ASYNC, O_DIRECT, O_NOATIME, O_NONBLOCK};
    O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK
};

/// The present offset of a duplicate, in bytes.
fn offset(held: &HeldFile) -> Result<i64> {
    use nix::unistd::{Whence, lseek};
    let at = lseek(&held.duplicate, 0, Whence::SeekCur).map_err(Into::into);
    at.doing(|| format!("read the offset of descriptor {}", held.view.number))
}

/// Sets the offset of a new description.
fn seek_to(fd: &OwnedFd, offset: i64) -> Result<()> {
    use nix::unistd::{Whence, lseek};
    lseek(fd, offset, Whence::SeekSet).map_err(Into::into).doing(|| format!("seek to {offset}")).map(drop)
}

/// The status flags of a duplicate as they are now.
fn flags_now(held: &HeldFile) -> Result<i32> {
    use nix::fcntl::{FcntlArg, fcntl};
    let flags = fcntl(&held.duplicate, FcntlArg::F_GETFL).map_err(Into::into);
    flags.doing(|| format!("read the flags of descriptor {}", held.view.number))
}

/// Opens the same pipe or device again through /proc, as a description of its own.
fn reopen(fd: &OwnedFd, flags: i32) -> Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    open_again(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes(), flags)
}

/// A descriptor as a File, for reading and writing.
fn as_file(fd: &OwnedFd) -> Result<File> {
    fd.try_clone().map(File::from).doing(|| "duplicate a descriptor".into())
}
