//! The descriptions of the source process: what is known of each, and what one is told of the others.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use migrate_linux::cork_probe::CorkProbe;
use migrate_linux::terminal_probe::TerminalRecord;
use nix::sys::stat::FileStat;

use super::FileImage;
use super::ONLY_WHEN_OPENING;
use super::socket::memberships::Groups;
use super::socket::options::FreshOptions;
use super::socket::unix::UnixView;
use crate::error::{Error, Result};
use crate::image::ObjectId;
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;
use crate::proc::process::Process;

/// What is known of an open file description: text of /proc, and fstat.
#[derive(Debug)]
pub struct FileView {
    /// The first descriptor that refers to it; of one that is only inside another description, that one's.
    pub number: i32,
    /// Where its link points.
    pub link: LinkTarget,
    /// The fdinfo of `number`: when the process stands still, as it is now.
    pub info: FdInfo,
    /// Its fstat(2): likewise.
    pub stat: FileStat,
    /// It is known that nobody gets signals about it.
    pub unowned: bool,
    /// It was found as a file in /dev/shm; it may have been unlinked since.
    pub posix_shm: bool,
    /// Whether it is an eventfd of EFD_SEMAPHORE, if its fdinfo does not tell and a probe has been asked.
    pub semaphore: Option<bool>,
    /// What kind of socket it is, if it is one.
    pub socket: Option<SocketView>,
    /// What is known of a unix socket beside.
    pub unix: Option<UnixView>,
}

/// What a socket is from its beginning (socket(7): SO_DOMAIN, SO_TYPE, SO_PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketView {
    /// AF_UNIX, AF_INET and so on.
    pub domain: i32,
    /// SOCK_STREAM, SOCK_DGRAM and so on, without flags.
    pub kind: i32,
    /// As in socket(2).
    pub protocol: i32,
}

impl FileView {
    /// Its file type: S_IFREG and so on.
    pub fn file_type(&self) -> u32 {
        self.stat.st_mode & nix::libc::S_IFMT
    }

    /// Its status flags and access mode, without those that matter only when opening, and O_ASYNC (see [`owner`](super::owner)).
    pub fn status_flags(&self) -> i32 {
        self.info.flags as i32 & !ONLY_WHEN_OPENING & !nix::libc::O_ASYNC
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
    pub process: Process,
    /// What is known of it.
    pub view: FileView,
    /// A duplicate of it.
    pub duplicate: OwnedFd,
    /// Of a file without a name: the number by which its content travels with the pages.
    pub content: Option<u32>,
}

impl HeldFile {
    /// Its device and inode.
    pub fn inode(&self) -> (u64, u64) {
        (self.view.stat.st_dev, self.view.stat.st_ino)
    }
}

/// The descriptions of the frozen process, for one that refers to others.
#[derive(Debug, Clone, Copy)]
pub struct Others<'a> {
    known: &'a (dyn Known + Sync),
    /// What the options of sockets are that nobody has set.
    pub fresh: &'a FreshOptions,
    /// The multicast groups of this host.
    pub groups: &'a Groups,
    told: Option<&'a FileImage>,
    terminals: Option<&'a [TerminalRecord]>,
    /// What tells what sockets hold back. Err: why nothing does.
    pub corked: std::result::Result<&'a CorkProbe, &'a str>,
}

/// Who knows them.
pub trait Known: std::fmt::Debug {
    /// Which one a duplicate is of. Ok(None): none of them.
    fn object_of(&self, fd: &OwnedFd) -> Result<Option<ObjectId>>;
    /// What a number of the process refers to. None: nothing; or something else in its place there.
    fn object_at(&self, number: i32) -> Option<(ObjectId, &HeldFile)>;
    /// Those on an inode of this number, of whatever file system.
    fn on_inode(&self, inode: u64) -> Vec<(ObjectId, &HeldFile)>;
    /// Whether the operator has put something else in the place of this number.
    fn is_replaced(&self, number: i32) -> bool;
}

impl<'a> Others<'a> {
    /// Those that are known.
    pub fn new(
        known: &'a (dyn Known + Sync),
        fresh: &'a FreshOptions,
        groups: &'a Groups,
        corked: std::result::Result<&'a CorkProbe, &'a str>,
    ) -> Others<'a> {
        Others { known, fresh, groups, told: None, terminals: None, corked }
    }

    /// The same for one of which the destination has been told this.
    pub fn about(self, told: Option<&'a FileImage>) -> Others<'a> {
        Others { told, ..self }
    }

    /// With what a probe has told of the terminals.
    pub fn with_terminals(self, terminals: Option<&'a [TerminalRecord]>) -> Others<'a> {
        Others { terminals, ..self }
    }

    /// What is in the terminals, by their masters' numbers. None: nothing tells.
    pub fn terminals(&self) -> Option<&'a [TerminalRecord]> {
        self.terminals
    }

    /// What it was when the destination was told of it, while the process still ran. None: it has not been.
    pub fn told_before(&self) -> Option<&'a FileImage> {
        self.told
    }

    /// Those on an inode of this number, of whatever file system.
    pub fn on_inode(&self, inode: u64) -> Vec<(ObjectId, &'a HeldFile)> {
        self.known.on_inode(inode)
    }

    /// The one that `fd` is a duplicate of. Err: the process does not have it.
    pub fn object_of(&self, fd: &OwnedFd) -> Result<ObjectId> {
        self.known.object_of(fd)?.ok_or_else(|| Error::Invalid("a descriptor of nothing that is known".into()))
    }

    /// What the process has at a number. None: nothing that moves.
    pub fn object_at(&self, number: i32) -> Option<(ObjectId, &'a HeldFile)> {
        self.known.object_at(number)
    }

    /// Whether the operator has put something else in the place of this number (`--fd`).
    pub fn is_replaced(&self, number: i32) -> bool {
        self.known.is_replaced(number)
    }
}
