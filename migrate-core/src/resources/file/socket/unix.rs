//! Unix sockets (unix(7)) whose other ends are inside the process: streams, datagrams, sequenced packets; pairs, and those connected
//! through a listener; bound by path, by an abstract name, to nothing; listening, with connections that nobody has accepted; one end
//! closed or shut down; what is in their queues, with descriptors, credentials and the bounds of messages; whose the other end is
//! (SO_PEERCRED), options, flags, owner and mode.
//!
//! What only the kernel knows of them (peers, who waits to be accepted, how they were shut down) sock_diag(7) tells of all at once.
//! They are made again as the program made them: see [`super::unix_making`]. What is queued is read and sent again in
//! [`super::unix_queue`]. A path appears only after the commit: [`super::unix_places`].
//!
//! Not to be had: the time stamps of what is queued, and the content of connections that nobody has accepted.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use bincode::{Decode, Encode};
use migrate_linux::unix_diag::UnixSocket;
use migrate_linux::{libc, sockopt, unix_messages};
use nix::sys::socket::{getsockopt, sockopt as named};
use nix::sys::stat::{fchmod, fstat};
use rustix::event::PollFlags;

use super::fresh;
use super::options::SocketOptions;
use super::unix_places::Place;
use super::unix_queue::{self, Message, Queued};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{
    FileKind, FileView, HeldFile, NewFiles, Others, SocketView, flags_now, polled, set_flags,
};

/// What is known of a unix socket beside what every socket has.
#[derive(Debug)]
pub struct UnixView {
    /// What sock_diag(7) tells.
    pub told: UnixSocket,
    /// What it is connected to.
    pub peer: Peer,
    /// The process stands still: its queue may be read.
    pub still: bool,
    /// What its queue weighs, in bytes of the kernel's memory. None: it is not known.
    pub weight: Option<usize>,
    /// What is in its queue: read once only, because a message of no bytes shows itself to MSG_PEEK once only, unless it is the first.
    pub queue: OnceLock<Vec<Queued>>,
}

impl UnixView {
    /// The peer is found out later.
    pub fn new(told: UnixSocket, still: bool) -> UnixView {
        UnixView { told, peer: Peer::None, still, weight: None, queue: OnceLock::new() }
    }

    /// What is in its queue; nothing, as long as the process runs.
    pub(super) fn queue(&self, socket: &OwnedFd) -> std::io::Result<&[Queued]> {
        if self.queue.get().is_none() {
            let queue = unix_queue::read(socket, self)?;
            return Ok(self.queue.get_or_init(|| queue));
        }
        Ok(self.queue.get().map_or(&[], Vec::as_slice))
    }
}

/// What a unix socket is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Nothing.
    None,
    /// The socket of the same process with this inode.
    Inside(u32),
    /// One that has been closed.
    Gone,
    /// The listener of the same process with this inode, which has not accepted it.
    Waiting(u32),
    /// One of another process.
    Outside,
}

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UnixImage {
    pub(super) inode: u32,
    pub(super) kind: i32,
    pub(super) flags: i32,
    /// As in [`UnixSocket::name`].
    pub(super) name: Vec<u8>,
    /// Where others find it by its path.
    pub(super) file: Option<BoundFile>,
    pub(super) link: Link,
    /// Whom SO_PEERCRED tells. None: nobody.
    pub(super) peer_owner: Option<Owner>,
    /// As in [`UnixSocket::shutdown`].
    pub(super) shutdown: u8,
    /// The next call on it fails with ECONNRESET.
    pub(super) reset: bool,
    /// What its messages that nobody has received weigh, in bytes of the kernel's memory.
    pub(super) sent: u32,
    pub(super) queue: Vec<Message>,
    pub(super) options: SocketOptions,
    /// Of the socket itself (fstat(2)).
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What it is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Link {
    /// Nothing.
    None,
    /// It listens.
    Listening {
        /// How many may wait to be accepted.
        backlog: i32,
        /// Who does, by inode, the first one first. 0: one that has been closed since.
        pending: Vec<u32>,
    },
    /// Another socket of the process, by inode.
    Inside(u32),
    /// One that has been closed; its name.
    Gone(Vec<u8>),
    /// A listener, by inode, that has not accepted it yet.
    Waiting(u32),
    /// A datagram socket of another process, by name: whoever has the name at the destination.
    Named(Vec<u8>),
}

/// A process as SO_PEERCRED tells it: this one, under these IDs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// The file of a socket that is bound by path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BoundFile {
    /// Where it is.
    pub(super) path: Vec<u8>,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl UnixImage {
    /// Its inode on the source: what others are connected to.
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Whether one is connected to the other.
    pub fn is_linked_with(&self, other: &UnixImage) -> bool {
        self.link == Link::Inside(other.inode) || other.link == Link::Inside(self.inode)
    }
}

/// The kind.
pub enum Unix {}

/// Of this kind every message of a queue and every name is shorter.
pub(super) const NAME_LIMIT: usize = 108;

/// What sort of socket it is.
pub(super) fn sort(kind: i32) -> SocketView {
    SocketView { domain: libc::AF_UNIX, kind, protocol: 0 }
}

/// A new one, on which no call waits.
pub(super) fn unbound(kind: i32) -> Result<OwnedFd> {
    let socket = fresh(sort(kind))?;
    set_flags(&socket, libc::O_NONBLOCK)?;
    Ok(socket)
}

impl FileKind for Unix {
    const NAME: &'static str = "unix socket";
    const MOVES: &'static str = "streams, datagrams, sequenced packets whose other ends are inside the process: pairs, bound (path, abstract), \
         listening with waiting connections, half closed; queues with descriptors and credentials, options, SO_PEERCRED";
    type Image = UnixImage;
    const AHEAD: bool = true;

    fn recognise(view: &FileView) -> bool {
        view.socket.is_some_and(|socket| socket.domain == libc::AF_UNIX)
    }

    fn preflight(_view: &FileView) -> Verdict {
        // What is at its other end is a question about the whole host; it is asked once for all of them.
        Verdict::Supported
    }

    fn is_ahead(image: &UnixImage) -> bool {
        // Nobody must notice it before the process runs, and what is shut down cannot be filled any more.
        let unnoticed = match &image.link {
            Link::None => image.kind != libc::SOCK_DGRAM || image.name.is_empty() && image.peer_owner.is_none(),
            Link::Inside(_) => image.kind != libc::SOCK_DGRAM || image.peer_owner.is_some(),
            Link::Listening { pending, .. } => pending.is_empty(),
            Link::Gone(_) | Link::Waiting(_) | Link::Named(_) => false,
        };
        // SO_PASSCRED, SO_PASSPIDFD, SO_PASSRIGHTS: what is sent while they are on is not what was sent before.
        let passes = |name: &i32| image.options.bytes_of(libc::SOL_SOCKET, *name).is_some();
        let plain = ![libc::SO_PASSCRED, 76, 83].iter().any(passes);
        unnoticed && plain && image.name.first() != Some(&0) && image.shutdown == 0 && !image.reset
    }

    fn holds(from: &HeldFile) -> Result<Vec<OwnedFd>> {
        let Some(view) = &from.view.unix else { return Ok(Vec::new()) };
        let reading = || format!("read the queue of descriptor {}", from.view.number);
        let queue = view.queue(&from.duplicate).doing(reading)?;
        queue.iter().flat_map(|message| &message.descriptors).map(|fd| fd.try_clone().doing(reading)).collect()
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<UnixImage> {
        let number = from.view.number;
        let unknown = || Error::Invalid(format!("fd {number}: sock_diag does not tell of this socket"));
        let view = from.view.unix.as_ref().ok_or_else(unknown)?;
        let told = &view.told;
        let reading = || format!("read descriptor {number}");
        let socket = &from.duplicate;
        let link = match view.peer {
            _ if told.listening => Link::Listening { backlog: told.sent as i32, pending: told.pending.clone() },
            Peer::None => Link::None,
            Peer::Inside(peer) => Link::Inside(peer),
            Peer::Waiting(listener) => Link::Waiting(listener),
            Peer::Gone => Link::Gone(unix_messages::name_of_peer(socket).unwrap_or_default()),
            Peer::Outside => Link::Named(unix_messages::name_of_peer(socket).doing(reading)?),
        };
        let events = polled(socket, PollFlags::PRI).doing(reading)?;
        if events.contains(PollFlags::PRI) {
            return Err(Error::Refused(vec![format!(
                "fd {number}: urgent data (MSG_OOB) waits in a unix socket, which cannot move; let the program receive it"
            )]));
        }
        let reset = events.contains(PollFlags::ERR);
        if reset && !matches!(link, Link::Gone(_)) {
            return Err(Error::Refused(vec![format!(
                "fd {number}: an error waits on a unix socket, which cannot move; let the program read or write it once"
            )]));
        }
        let queue = unix_queue::capture(from, view, others)?;
        Ok(UnixImage {
            inode: told.inode,
            kind: told.kind,
            flags: flags_now(from)? & libc::O_NONBLOCK,
            file: bound_file(socket, &told.name, &link).doing(reading)?,
            name: told.name.clone(),
            link,
            peer_owner: peer_owner(socket).doing(reading)?,
            shutdown: told.shutdown,
            reset,
            sent: if view.still && !told.listening { told.sent } else { 0 },
            queue,
            options: SocketOptions::capture(socket, sort(told.kind), others.fresh)?,
            mode: from.view.stat.st_mode & 0o7777,
            uid: from.view.stat.st_uid,
            gid: from.view.stat.st_gid,
        })
    }

    fn create(image: &UnixImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let made = new.unix.remove(&image.inode);
        made.ok_or_else(|| Error::Invalid(format!("unix socket {} has not been made", image.inode)))
    }

    fn update(old: &UnixImage, new: &UnixImage, _fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        let same_link = match (&old.link, &new.link) {
            (Link::Listening { backlog: old, .. }, Link::Listening { backlog: new, .. }) => old == new,
            (old, new) => old == new,
        };
        // Setting options sets those that are not as of a fresh socket.
        let same = same_link && (old.inode, old.kind, &old.options) == (new.inode, new.kind, &new.options);
        Ok(same && old.name == new.name && old.peer_owner == new.peer_owner)
    }

    fn goes_live(image: &UnixImage) -> bool {
        image.file.is_some()
    }

    fn go_live(image: &UnixImage, fd: &OwnedFd) -> Result<()> {
        match &image.file {
            Some(file) => Place::of(fd)?.move_to(file),
            None => Ok(()),
        }
    }
}

/// Whom SO_PEERCRED tells.
fn peer_owner(socket: &OwnedFd) -> std::io::Result<Option<Owner>> {
    let told = getsockopt(socket, named::PeerCredentials)?;
    if told.pid() == 0 {
        return Ok(None);
    }
    const SO_PEERGROUPS: i32 = 59;
    let mut room = vec![0; 256];
    let length = loop {
        match sockopt::get(socket, libc::SOL_SOCKET, SO_PEERGROUPS, &mut room) {
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && room.len() < 4 << 16 => room.resize(room.len() * 4, 0),
            length => break length?,
        }
    };
    let groups = room.get(..length).unwrap_or_default().as_chunks().0;
    let groups = groups.iter().map(|group| u32::from_ne_bytes(*group)).collect();
    Ok(Some(Owner { uid: told.uid(), gid: told.gid(), groups }))
}

/// The file under which others find it, if it is still there. One that is connected is found by nobody.
fn bound_file(socket: &OwnedFd, name: &[u8], link: &Link) -> std::io::Result<Option<BoundFile>> {
    let stream = getsockopt(socket, named::SockType)? != nix::sys::socket::SockType::Datagram;
    let found = !stream || matches!(link, Link::None | Link::Listening { .. });
    if name.is_empty() || name.first() == Some(&0) || !found {
        return Ok(None);
    }
    let Some(file) = unix_messages::bound_file(socket)? else { return Ok(None) };
    let stat = fstat(&file)?;
    if stat.st_nlink == 0 {
        return Ok(None);
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(Some(BoundFile {
        path: path.as_os_str().as_bytes().to_vec(),
        device: stat.st_dev,
        inode: stat.st_ino,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }))
}

/// Sets what does not depend on others, when its queue is filled.
pub(super) fn settle(image: &UnixImage, socket: &OwnedFd) -> Result<()> {
    let kind = sort(image.kind);
    image.options.restore(socket, kind)?;
    image.options.restore_last(socket, kind)?;
    let setting = || "set the owner and the flags of a unix socket".to_string();
    let now = fstat(socket).map_err(Into::into).doing(setting)?;
    if (now.st_uid, now.st_gid) != (image.uid, image.gid) {
        std::os::unix::fs::fchown(socket, Some(image.uid), Some(image.gid)).doing(setting)?;
    }
    if now.st_mode & 0o7777 != image.mode {
        let mode = nix::sys::stat::Mode::from_bits_truncate(image.mode);
        fchmod(socket, mode).map_err(Into::into).doing(setting)?;
    }
    set_flags(socket, image.flags)
}

/// A peer's image must be such as there can be.
pub(super) fn check(image: &UnixImage) -> Result<()> {
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
    let name_of_link = match &image.link {
        Link::Gone(name) | Link::Named(name) => name.len(),
        _ => 0,
    };
    let groups = image.peer_owner.as_ref().map_or(0, |owner| owner.groups.len());
    let right = kinds.contains(&image.kind)
        && image.inode != 0
        && image.name.len().max(name_of_link) <= NAME_LIMIT
        && image.shutdown <= 3
        && groups <= 1 << 16;
    if right { Ok(()) } else { Err(Error::Invalid(format!("unix socket {} makes no sense", image.inode))) }
}
