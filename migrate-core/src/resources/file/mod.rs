//! Open file descriptions: one kind, one file.
//!
//! On the source the agent takes a duplicate of each (pidfd_getfd(2)) and reads it in plain Rust; at the destination it makes
//! the counterpart in plain Rust and hands it over with SCM_RIGHTS.

mod calls;
mod device;
mod directory;
mod epoll;
mod eventfd;
mod fifo;
mod held;
mod inotify;
mod kernel_file;
mod namespace;
mod new_files;
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

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::remote::Batch;
use socket::address::Bound;
use socket::options::FreshOptions;
use socket::{netlink, packet, raw, tcp, udp, unix};

use calls::{
    CHANGEABLE, ONLY_WHEN_OPENING, as_file, flags_now, offset, open_again, polled, ready_for, reopen, seek_to,
    set_flags,
};

use super::Verdict;
use crate::error::{Capturing, Error, Result};
use crate::image::ObjectId;

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
    /// Whether it was read as it is also when the kernel is just about to change it.
    fn is_in_doubt(_image: &Self::Image) -> bool {
        false
    }
    /// Whether one that was in doubt is still as it was read, now that the kernel has done what was due then.
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

        /// Whether one was read as it is also when the kernel is just about to change it.
        pub fn is_in_doubt(image: &FileImage) -> bool {
            match image {
                $(FileImage::$Kind(image) => $module::$Kind::is_in_doubt(image),)*
            }
        }

        /// Whether one that was in doubt is still as it was read, now that the kernel has done what was due then.
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

pub use eventfd::is_untold as is_untold_eventfd;
pub use fifo::is_fifo;
pub use held::{FileView, HeldFile, Known, Others, SocketView};
pub use new_files::{Content, NewFiles};
pub use placed::{Made, Placed};
pub use pty_master::{loss_without_probe, settle as settle_terminal};
pub use unnamed::is_unnamed;

pub use migrate_linux::waits::boot_time as time_here;
