//! Makes the unix sockets of a process again, all together.
//!
//! SO_PEERCRED tells who called socketpair(2), listen(2) and connect(2), so these calls are made inside the new process, under the
//! IDs that it had then; all others in this one. Connections whose ends have names were made through a listener, from which the
//! accepted end has its name: they are made so again, through the listener that there is or one that is made for it.
//!
//! In two steps: [`UnixSockets::make`] makes sockets and connections, before the freeze where that cannot be noticed;
//! [`UnixSockets::finish`] fills the queues and does what must come after: connecting datagram sockets to whom they speak, closing
//! what was closed, shutting down, and connecting those that nobody has accepted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use migrate_linux::{libc, unix_messages};

use super::unix::{self, Link, UnixImage};
use super::unix_calls::{Call, Calls, End, NewProcess, run};
use super::unix_places::{Place, Places, directory_for};
use crate::error::{Doing, Error, Result};
use crate::plan::STATE_DIRECTORY;

/// What lasts from one step to the next.
#[derive(Debug, Default)]
pub struct UnixSockets {
    /// The other ends of those that have none in the process, by their inodes on the source.
    pub(super) partners: HashMap<u32, OwnedFd>,
    /// Datagram sockets that were made as a pair, by inode: each with the other.
    pub(super) pairs: HashMap<u32, u32>,
    places: Places,
}

/// A backlog that is large enough while connections are made.
const ENOUGH: i32 = 4096;

impl UnixSockets {
    /// Makes them. `there`: those that have been made before.
    pub fn make(
        &mut self,
        images: &[&UnixImage],
        there: &HashMap<u32, (&UnixImage, &OwnedFd)>,
        same_kernel: bool,
        process: &mut dyn NewProcess,
    ) -> Result<HashMap<u32, OwnedFd>> {
        images.iter().try_for_each(|image| unix::check(image))?;
        let by_inode: BTreeMap<u32, &UnixImage> = images.iter().map(|image| (image.inode, *image)).collect();
        let mut making = Making { fds: HashMap::new(), calls: Vec::new() };
        let mut done = HashSet::new();
        for image in by_inode.values() {
            if done.contains(&image.inode) || !is_one_of_two(image) {
                continue;
            }
            let other = other_of(image, &by_inode).filter(|other| !done.contains(&other.inode));
            done.insert(image.inode);
            done.extend(other.map(|other| other.inode));
            if image.kind == libc::SOCK_DGRAM {
                self.pairs.extend(other.iter().flat_map(|o| [(image.inode, o.inode), (o.inode, image.inode)]));
                making.pair(image, other);
                continue;
            }
            let other_name = match (&image.link, other) {
                (_, Some(other)) => other.name.as_slice(),
                (Link::Gone(name), None) => name,
                _ => &[],
            };
            if image.name.is_empty() && other_name.is_empty() {
                making.pair(image, other);
            } else {
                let listener = |name: &[u8]| {
                    let all = by_inode.values().copied().chain(there.values().map(|(image, _)| *image));
                    all.filter(|i| matches!(i.link, Link::Listening { .. })).find(|i| i.name == name)
                };
                making.connection(image, other, other_name, listener)?;
            }
        }
        for image in by_inode.values().filter(|image| !done.contains(&image.inode)) {
            let socket = unix::unbound(image.kind)?;
            self.bind(&socket, image, same_kernel)?;
            making.single(image, socket);
        }
        making.calls.sort_by_key(|(owner, call)| (call.step(), *owner));
        let Making { mut fds, calls } = making;
        run(&calls, &mut fds, there, process)?;
        let mut made = HashMap::new();
        for (end, fd) in fds {
            match end {
                End::Of(inode) => drop(made.insert(inode, fd)),
                End::Partner(inode) => drop(self.partners.insert(inode, fd)),
                End::Listener(_) | End::Closed(..) => {}
            }
        }
        Ok(made)
    }

    /// Binds one that was bound by itself.
    fn bind(&mut self, socket: &OwnedFd, image: &UnixImage, same_kernel: bool) -> Result<()> {
        match &image.file {
            Some(file) => {
                let directory = directory_for(file, same_kernel)?;
                self.places.add(Place::bind(socket, &image.name, &directory)?);
                Ok(())
            }
            None => bind(socket, &image.name),
        }
    }

    /// What is to be removed when the process runs, or never will.
    pub fn take_places(&mut self) -> Places {
        std::mem::take(&mut self.places)
    }
}

/// Binds a socket to a name whose file, if it is a path, nobody is to find.
pub(super) fn bind(socket: &OwnedFd, name: &[u8]) -> Result<()> {
    match name.first() {
        None => Ok(()),
        Some(0) => match unix_messages::bind(socket, name) {
            Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) => Err(Error::Refused(vec![format!(
                "the abstract unix address @{} is taken on the destination{}; end who has it there",
                name[1..].escape_ascii(),
                holder(name)
            )])),
            bound => bound.doing(|| format!("bind a unix socket to @{}", name[1..].escape_ascii())),
        },
        Some(_) => Place::bind(socket, name, Path::new(STATE_DIRECTORY)).map(drop),
    }
}

/// Who has an abstract name, in words.
fn holder(name: &[u8]) -> String {
    let all = migrate_linux::unix_diag::sockets().unwrap_or_default();
    let inode = all.iter().find(|socket| socket.name == name && socket.inode != 0).map(|socket| socket.inode);
    let Some(inode) = inode else { return String::new() };
    let mut found = String::new();
    let link_text = format!("socket:[{inode}]");
    let looked = crate::proc::listing::for_each_fd_of_others(&[], |process, entry, link| {
        if link == link_text.as_bytes() && found.is_empty() {
            let number = entry.file_name();
            found = format!(
                " by process {process} ({}), descriptor {}",
                crate::proc::listing::name_of(process.pid),
                number.display()
            );
        }
    });
    if looked.is_ok() { found } else { String::new() }
}

/// Whether it was made together with another one.
fn is_one_of_two(image: &UnixImage) -> bool {
    match image.kind {
        // Otherwise nobody would be told.
        libc::SOCK_DGRAM => image.peer_owner.is_some(),
        _ => matches!(image.link, Link::Inside(_) | Link::Gone(_)),
    }
}

/// The one that it was made with, if that is to be made too.
fn other_of<'i>(image: &UnixImage, by_inode: &BTreeMap<u32, &'i UnixImage>) -> Option<&'i UnixImage> {
    let linked = match image.link {
        Link::Inside(peer) => by_inode.get(&peer).copied().filter(|peer| peer.kind == image.kind),
        _ => None,
    };
    if image.kind != libc::SOCK_DGRAM {
        return linked;
    }
    let points_here = |other: &UnixImage| other.link == Link::Inside(image.inode);
    // One without a name can only be spoken to by the one that it was made with.
    let made_with = |other: &UnixImage| other.peer_owner.is_some() && (points_here(other) || other.name.is_empty());
    linked.filter(|other| made_with(other)).or_else(|| {
        let unnamed = image.name.is_empty();
        let of_this = |other: &&UnixImage| unnamed && is_one_of_two(other) && points_here(other);
        by_inode.values().copied().filter(|other| other.kind == image.kind).find(of_this)
    })
}

/// Sockets in the making.
struct Making<'i> {
    fds: HashMap<End, OwnedFd>,
    calls: Calls<'i>,
}

impl<'i> Making<'i> {
    fn pair(&mut self, image: &'i UnixImage, other: Option<&UnixImage>) {
        let other = other.map_or(End::Partner(image.inode), |other| End::Of(other.inode));
        let call = Call::Pair { kind: image.kind, ends: (End::Of(image.inode), other) };
        self.calls.push((image.peer_owner.as_ref(), call));
    }

    fn single(&mut self, image: &'i UnixImage, socket: OwnedFd) {
        let end = End::Of(image.inode);
        self.fds.insert(end, socket);
        if let Link::Listening { backlog, .. } = image.link {
            self.calls.push((image.peer_owner.as_ref(), Call::Listen { listener: end, backlog }));
        }
    }

    /// Two connected through a listener. `listener`: the one of a name.
    fn connection(
        &mut self,
        image: &'i UnixImage,
        other: Option<&'i UnixImage>,
        other_name: &[u8],
        listener: impl Fn(&[u8]) -> Option<&'i UnixImage>,
    ) -> Result<()> {
        let here = (End::Of(image.inode), image.name.as_slice(), image.peer_owner.as_ref());
        let there = other.map_or(End::Partner(image.inode), |other| End::Of(other.inode));
        let there = (there, other_name, other.map_or(image.peer_owner.as_ref(), |other| other.peer_owner.as_ref()));
        let (accepted, client) =
            if is_accepted(here.1, there.1, |name| listener(name).is_some()) { (here, there) } else { (there, here) };
        let (accepted_end, name, connected_by) = accepted;
        let (client_end, client_name, listened_by) = client;
        let client_socket = unix::unbound(image.kind)?;
        bind(&client_socket, client_name)?;
        self.fds.insert(client_end, client_socket);
        let through = match listener(name).filter(|_| name.first() == Some(&0)) {
            // Nobody else can have this name.
            Some(listener) => End::Of(listener.inode),
            None => {
                let end = End::Listener(image.inode);
                let socket = unix::unbound(image.kind)?;
                bind(&socket, name)?;
                self.fds.insert(end, socket);
                self.calls.push((listened_by, Call::Listen { listener: end, backlog: ENOUGH }));
                end
            }
        };
        let call = Call::Connect { client: client_end, listener: through, accepted: Some(accepted_end) };
        self.calls.push((connected_by, call));
        Ok(())
    }
}

/// Which of two names is the one of the accepted end: whether it is the first one.
fn is_accepted(first: &[u8], second: &[u8], is_listener: impl Fn(&[u8]) -> bool) -> bool {
    // What the kernel makes up for one that binds to nothing (net/unix/af_unix.c, `unix_autobind`).
    let made_up = |name: &[u8]| name.len() == 6 && name[0] == 0;
    match (first.is_empty(), second.is_empty()) {
        (false, true) => true,
        (true, _) => false,
        _ if is_listener(first) != is_listener(second) => is_listener(first),
        _ => !made_up(first),
    }
}
