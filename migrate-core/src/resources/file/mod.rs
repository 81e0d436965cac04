//! Open file descriptions: one kind, one file.
//!
//! On the source the agent takes a duplicate of each (pidfd_getfd(2)) and reads it in plain Rust; at the destination it makes
//! the counterpart in plain Rust and hands it over with SCM_RIGHTS.

mod device;
mod directory;
mod epoll;
mod eventfd;
mod fifo;
mod inotify;
mod kernel_file;
mod namespace;
pub mod owner;
mod path_only;
mod pidfd;
mod pipe;
mod pipe_content;
mod placed;
mod pty_master;
mod pty_slave;
mod regular;
pub mod replaced;
mod signalfd;
pub mod socket;
mod terminal_content;
mod timerfd;
mod tty;
mod unmovable;
mod unnamed;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use bincode::{Decode, Encode};
use migrate_linux::remote::Batch;
use migrate_linux::terminal_probe::TerminalRecord;
use nix::sys::stat::FileStat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket::address::Bound;
use socket::memberships::Groups;
use socket::options::FreshOptions;
use socket::unix::UnixView;
use socket::{netlink, packet, raw, tcp, udp, unix};

use super::Verdict;
use crate::error::{Capturing, Doing, Error, Result};
use crate::image::ObjectId;
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;

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

    /// Its status flags and access mode, without those that matter only when opening, and O_ASYNC (see [`owner`]).
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
    pub process: i32,
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
    pub fn new(known: &'a (dyn Known + Sync), fresh: &'a FreshOptions, groups: &'a Groups) -> Others<'a> {
        Others { known, fresh, groups, told: None, terminals: None }
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

/// What the descriptions of one new process share while they are made.
#[derive(Debug)]
pub struct NewFiles {
    /// Source and destination are one machine, and see the same files.
    pub same_kernel: bool,
    /// The process stands still: what its files are now is what they must be here.
    pub frozen: bool,
    /// The new process, as this one sees it.
    process: i32,
    /// When what they are made from was sent: there, and here.
    sent: Option<(u64, Instant)>,
    /// Files without a name, by the number by which their content travels.
    contents: HashMap<u32, Content>,
    /// Pipes made so far, by their inode on the source.
    pipes: HashMap<u64, pipe::NewPipe>,
    /// FIFOs of which some description was made, by their device and inode on the source.
    fifos: HashMap<(u64, u64), fifo::NewFifo>,
    /// Masters of pseudo terminals that were made so far, by their numbers.
    ptys: HashMap<u32, OwnedFd>,
    /// Slaves that something has been written to, until the others are open too.
    slaves: Vec<OwnedFd>,
    /// Unix sockets, which are made all together, by their inode on the source.
    pub unix: HashMap<u32, OwnedFd>,
}

/// A file without a name that has been made.
#[derive(Debug, Clone)]
pub struct Content {
    /// It.
    pub file: Arc<File>,
    /// The description with which O_TMPFILE made it, if that did.
    pub first: Option<Arc<File>>,
}

impl NewFiles {
    /// For the new process `process`, as this one sees it.
    pub fn new(process: i32, same_kernel: bool, frozen: bool) -> NewFiles {
        NewFiles {
            same_kernel,
            frozen,
            process,
            sent: None,
            contents: HashMap::new(),
            pipes: HashMap::new(),
            fifos: HashMap::new(),
            ptys: HashMap::new(),
            slaves: Vec::new(),
            unix: HashMap::new(),
        }
    }

    /// When what they are made from was sent: the source's [`time_here`], and that moment here.
    pub fn sent_at(self, there: u64, here: Instant) -> NewFiles {
        NewFiles { sent: Some((there, here)), ..self }
    }

    /// Nanoseconds since a [`time_here`] of the source.
    fn passed_since(&self, time: u64) -> u64 {
        let here = |at: Instant| u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent.map_or(0, |(sent, at)| sent.saturating_sub(time).saturating_add(here(at)))
    }

    /// Those of the process's files without a name.
    pub fn with(self, contents: &HashMap<u32, Content>) -> NewFiles {
        NewFiles { contents: contents.clone(), ..self }
    }
}

/// So many calls at most may tie one description to its process.
pub const CALLS_TO_CONNECT: usize = 1000;

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
    /// The same by what only a duplicate of it, or its process, tells. Asked when what is known of it says that it can.
    fn examine(_from: &HeldFile) -> Result<Verdict> {
        Ok(Verdict::Supported)
    }
    /// The path of the file that must be at the destination.
    fn needs(_view: &FileView) -> Option<&OsStr> {
        None
    }
    /// What of it takes an address and port: the destination must have them.
    fn address(_from: &HeldFile, _fresh: &FreshOptions) -> Result<Option<Bound>> {
        Ok(None)
    }
    /// Duplicates of the descriptions inside it (in flight in a socket's queue): they move too, though no number refers to them.
    fn holds(_from: &HeldFile) -> Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }
    /// Reads it without changing it.
    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<Self::Image>;
    /// Whether it is still as it was read a moment ago: only where the kernel itself may be just about to change it.
    fn is_settled(_image: &Self::Image, _from: &HeldFile) -> Result<bool> {
        Ok(true)
    }
    /// Those that it refers to: with one of these made anew, it must be made anew too.
    fn refers_to(_image: &Self::Image) -> Vec<ObjectId> {
        Vec::new()
    }
    /// Whether it must be made when all others are.
    fn comes_last(_image: &Self::Image) -> bool {
        false
    }
    /// Whether it must be made, and tied to the process, before all others.
    fn comes_first(_image: &Self::Image) -> bool {
        false
    }
    /// Makes it at the destination.
    fn create(image: &Self::Image, new: &mut NewFiles) -> Result<OwnedFd>;
    /// Whether it may be made before the freeze, from what it was then: only where nobody can notice.
    const AHEAD: bool = false;
    /// The same of this one.
    fn is_ahead(_image: &Self::Image) -> bool {
        Self::AHEAD
    }
    /// Makes what was made from `old` what it would be from `new`. Ok(false): it must be made anew.
    fn update(_old: &Self::Image, _new: &Self::Image, _fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        Ok(false)
    }
    /// Ties it to others, in this process, when every one is made.
    fn tie(_image: &Self::Image, _fd: &OwnedFd, _made: &Made<'_>) -> Result<()> {
        Ok(())
    }
    /// Into how many parts its calls are divided, each of [`CALLS_TO_CONNECT`] at most.
    fn parts(_image: &Self::Image) -> usize {
        1
    }
    /// Adds the calls of one part that tie it to other descriptors of its process, or to the process, when all are in place.
    fn connect(_image: &Self::Image, _at: Placed<'_>, _batch: &mut Batch) -> Result<()> {
        Ok(())
    }
    /// Whether there is something to do for it after the commit. Until then this process keeps a duplicate.
    fn goes_live(_image: &Self::Image) -> bool {
        false
    }
    /// Does what others could notice, after the commit and before the process runs. It should not fail: nothing can be taken back.
    fn go_live(_image: &Self::Image, _fd: &OwnedFd) -> Result<()> {
        Ok(())
    }
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
            unmovable::verdict(view)
        }

        /// The same by what only a duplicate of it, or its process, tells.
        pub fn examine(from: &HeldFile) -> Result<Verdict> {
            $(if $module::$Kind::recognise(&from.view) {
                return $module::$Kind::examine(from).capturing($module::$Kind::NAME);
            })*
            Ok(Verdict::Supported)
        }

        /// Whether one of this kind may be made before the freeze.
        pub fn may_be_ahead(view: &FileView) -> bool {
            $(if $module::$Kind::recognise(view) { return $module::$Kind::AHEAD; })*
            false
        }

        /// The path of the file that must be at the destination for it.
        pub fn needs(view: &FileView) -> Option<&OsStr> {
            $(if $module::$Kind::recognise(view) { return $module::$Kind::needs(view); })*
            None
        }

        /// What of one takes an address and port.
        pub fn address(from: &HeldFile, fresh: &FreshOptions) -> Result<Option<Bound>> {
            $(if $module::$Kind::recognise(&from.view) {
                return $module::$Kind::address(from, fresh).capturing($module::$Kind::NAME);
            })*
            Ok(None)
        }

        /// Duplicates of the descriptions inside one.
        pub fn holds(from: &HeldFile) -> Result<Vec<OwnedFd>> {
            $(if $module::$Kind::recognise(&from.view) {
                return $module::$Kind::holds(from).capturing($module::$Kind::NAME);
            })*
            Ok(Vec::new())
        }

        /// Reads one.
        pub fn capture(from: &HeldFile, others: &Others<'_>) -> Result<FileImage> {
            $(if $module::$Kind::recognise(&from.view) {
                return $module::$Kind::capture(from, others).map(FileImage::$Kind).capturing($module::$Kind::NAME);
            })*
            match unmovable::verdict(&from.view) {
                Verdict::Unsupported(why) => Err(Error::Refused(vec![why])),
                _ => Err(Error::Invalid("a descriptor of no kind".into())),
            }
        }

        /// Whether one is still as it was read a moment ago.
        pub fn is_settled(image: &FileImage, from: &HeldFile) -> Result<bool> {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::is_settled(image, from).capturing($module::$Kind::NAME),)*
            }
        }

        /// Whether one may be made before the freeze.
        pub fn is_ahead(image: &FileImage) -> bool {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::is_ahead(image),)*
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

        /// Those that one refers to.
        pub fn refers_to(image: &FileImage) -> Vec<ObjectId> {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::refers_to(image),)*
            }
        }

        /// Into how many parts the calls are divided that tie one to other descriptors.
        pub fn parts(image: &FileImage) -> usize {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::parts(image),)*
            }
        }

        /// Ties one to others, in this process.
        pub fn tie(image: &FileImage, fd: &OwnedFd, made: &Made<'_>) -> Result<()> {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::tie(image, fd, made).capturing($module::$Kind::NAME),)*
            }
        }

        /// Adds the calls that tie one to other descriptors, or to the process.
        pub fn connect(image: &FileImage, at: Placed<'_>, batch: &mut Batch) -> Result<()> {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::connect(image, at, batch).capturing($module::$Kind::NAME),)*
            }
        }

        /// Whether there is something to do for one after the commit.
        pub fn goes_live(image: &FileImage) -> bool {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::goes_live(image),)*
            }
        }

        /// Does that.
        pub fn go_live(image: &FileImage, fd: &OwnedFd) -> Result<()> {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::go_live(image, fd).capturing($module::$Kind::NAME),)*
            }
        }

        /// By which they are made, and tied to their process: lower ones first.
        pub fn turn(image: &FileImage) -> (bool, bool) {
            match image {
                $(FileImage::$Kind(image) => ($module::$Kind::comes_last(image), !$module::$Kind::comes_first(image)),)*
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
    TimerFd = timerfd,
    SignalFd = signalfd,
    Inotify = inotify,
    PidFd = pidfd,
    Replaced = replaced,
    Unnamed = unnamed,
    Udp = udp,
    Tcp = tcp,
    Raw = raw,
    Packet = packet,
    Netlink = netlink,
    PtyMaster = pty_master,
    PtySlave = pty_slave,
    Unix = unix,
    PathOnly = path_only,
    KernelFile = kernel_file,
    Namespace = namespace,
    Fifo = fifo,
    Tty = tty,
}

/// The pseudo terminal that a description is an end of: its number, and whether that end is the master.
pub fn terminal_of(held: &HeldFile) -> Option<(u32, bool)> {
    terminal_in(&held.view).or_else(|| Some((tty::number(held)?, false)))
}

/// The same by what is known of it alone. Pure.
fn terminal_in(view: &FileView) -> Option<(u32, bool)> {
    if pty_slave::PtySlave::recognise(view) {
        return Some((nix::sys::stat::minor(view.stat.st_rdev) as u32, false));
    }
    let index = view.info.extra("tty-index").filter(|_| pty_master::PtyMaster::recognise(view))?;
    Some((std::str::from_utf8(index).ok()?.parse().ok()?, true))
}

impl FileImage {
    /// If it is a unix socket.
    pub fn unix(&self) -> Option<&unix::UnixImage> {
        match self {
            FileImage::Unix(image) => Some(image),
            _ => None,
        }
    }
}

/// What to do about descriptors that cannot move.
pub fn or_instead(numbers: &[i32]) -> String {
    let it = if numbers.len() == 1 { "it" } else { "them" };
    format!("let the program close {it}, or leave {it} behind: --fd {}=close|null|file:PATH", listed(numbers))
}

/// Numbers as `--fd` takes them.
pub fn listed(numbers: &[i32]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub use fifo::is_fifo;
pub use placed::{Made, Placed};
pub use pty_master::{loss_without_probe, settle as settle_terminal};
pub use unnamed::is_unnamed;

pub use migrate_linux::waits::boot_time as time_here;

/// Which of these events, or errors and hang-ups, wait on one now (poll(2)).
fn polled(fd: &OwnedFd, events: PollFlags) -> std::io::Result<PollFlags> {
    let mut asked = [PollFd::new(fd, events)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once))?;
    let [asked] = asked;
    Ok(asked.revents())
}

/// The same, as epoll(7) has them.
fn ready_for(fd: &OwnedFd, events: u32) -> Result<u32> {
    let ready = polled(fd, PollFlags::from_bits_retain(events as u16)).doing(|| "poll a descriptor".into())?;
    Ok(u32::from(ready.bits()))
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
    use nix::libc::{O_APPEND, O_DIRECT, O_NOATIME, O_NONBLOCK};
    O_APPEND | O_DIRECT | O_NOATIME | O_NONBLOCK
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

/// The status flags of a duplicate as they are now, without O_ASYNC (see [`owner`]).
fn flags_now(held: &HeldFile) -> Result<i32> {
    use nix::fcntl::{FcntlArg, fcntl};
    let flags = fcntl(&held.duplicate, FcntlArg::F_GETFL).map_err(Into::into);
    let flags = flags.doing(|| format!("read the flags of descriptor {}", held.view.number))?;
    Ok(flags & !nix::libc::O_ASYNC)
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
