//! What is done with the unix sockets of a process when all of them are made: see [`super::unix_making`].

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, OwnedFd};

use migrate_linux::{libc, sockopt, unix_messages};
use nix::sys::socket::{Shutdown, shutdown};

use super::unix::{self, Link, UnixImage};
use super::unix_calls::{Call, Calls, End, NewProcess, run};
use super::unix_making::{UnixSockets, bind};
use super::unix_queue::{self, Message};
use crate::error::{Doing, Error, Result};
use crate::resources::file::Made;

/// One of the process's sockets, when all are made.
pub struct Finished<'i> {
    /// What it is to be.
    pub image: &'i UnixImage,
    /// It.
    pub fd: &'i OwnedFd,
    /// It has been made now, or is to be something else than it was.
    pub changed: bool,
}

/// By inode.
type All<'a, 'i> = BTreeMap<u32, &'a Finished<'i>>;

impl UnixSockets {
    /// Does what must come after all have been made. Only those that have changed are touched.
    pub fn finish(&mut self, all: &[Finished<'_>], made: &Made<'_>, process: &mut dyn NewProcess) -> Result<()> {
        let all: All<'_, '_> = all.iter().map(|socket| (socket.image.inode, socket)).collect();
        let changed: Vec<_> = all.values().copied().filter(|socket| socket.changed).collect();
        for socket in changed.iter().filter(|socket| socket.image.kind == libc::SOCK_DGRAM) {
            self.part(socket.image, socket.fd)?;
        }
        self.fill(&all, &changed, made)?;
        for socket in &changed {
            self.close_partner(socket.image, socket.fd)?;
        }
        for socket in changed.iter().filter(|socket| socket.image.kind == libc::SOCK_DGRAM) {
            self.speak_to(socket.image, socket.fd, &all)?;
        }
        connect_waiting(&all, &changed, process)?;
        for Finished { image, fd, .. } in changed {
            let how = match image.shutdown {
                _ if matches!(image.link, Link::Gone(_)) => None,
                1 => Some(Shutdown::Read),
                2 => Some(Shutdown::Write),
                3 => Some(Shutdown::Both),
                _ => None,
            };
            if let Some(how) = how {
                shutdown(fd.as_raw_fd(), how).map_err(Into::into).doing(|| "shut down a unix socket".into())?;
            }
            unix::settle(image, fd)?;
        }
        Ok(())
    }

    /// A datagram socket that was made as one of a pair, and is connected to something else by now.
    fn part(&mut self, image: &UnixImage, fd: &OwnedFd) -> Result<()> {
        let stays = match image.link {
            Link::Inside(peer) => self.pairs.get(&image.inode) == Some(&peer),
            Link::Gone(ref name) => name.is_empty(),
            _ => false,
        };
        if image.peer_owner.is_some() && !stays {
            self.partners.remove(&image.inode);
            rustix::net::connect_unspec(fd).map_err(Into::into).doing(|| "part a pair of datagram sockets".into())?;
        }
        Ok(())
    }

    /// Sends again what was in the queues.
    fn fill(&self, all: &All<'_, '_>, changed: &[&Finished<'_>], made: &Made<'_>) -> Result<()> {
        let mut limits = Limits::default();
        let mut helpers = HashMap::new();
        for Finished { image, fd, .. } in changed {
            for message in &image.queue {
                let (sender, to) = match self.sender_of(image, message, all) {
                    Sender::Peer(inode) => (all.get(&inode).map(|sender| sender.fd), None),
                    Sender::Partner => (self.partners.get(&image.inode), None),
                    Sender::Another(inode) => (all.get(&inode).map(|sender| sender.fd), Some(Address::of(fd)?)),
                    Sender::Gone => (None, Some(Address::of(fd)?)),
                };
                let sender = match sender {
                    Some(sender) => {
                        limits.raise(sender)?;
                        sender
                    }
                    None => helper(&mut helpers, image, &message.from)?,
                };
                // Several pieces weigh what they did.
                let weight = match image.link {
                    Link::Inside(peer) if image.queue.len() == 1 => {
                        all.get(&peer).map_or(0, |peer| peer.image.sent as usize)
                    }
                    _ => 0,
                };
                let stream = image.kind == libc::SOCK_STREAM;
                unix_queue::send(message, sender, to.as_ref().map(Address::name), stream, weight, made)?;
            }
        }
        compare_weights(all, changed)?;
        limits.put_back()
    }

    /// Who sent a message.
    fn sender_of(&self, image: &UnixImage, message: &Message, all: &All<'_, '_>) -> Sender {
        let peer = match image.link {
            Link::Gone(_) if self.partners.contains_key(&image.inode) => return Sender::Partner,
            Link::Inside(peer) if image.kind != libc::SOCK_DGRAM => return Sender::Peer(peer),
            Link::Inside(peer) => Some(peer),
            _ => None,
        };
        // Of a datagram socket that is connected, only its peer may send to it.
        match peer {
            Some(peer) if self.pairs.get(&image.inode) == Some(&peer) => return Sender::Peer(peer),
            _ => {}
        }
        let is_sender = |sender: &&&Finished<'_>| {
            let sender = sender.image;
            // One with a name is meant; without a name it must be one that could speak to it.
            let may = !message.from.is_empty() || matches!(sender.link, Link::None) || speaks_to(sender, image);
            sender.kind == libc::SOCK_DGRAM && sender.name == message.from && sender.sent > 0 && may
        };
        let mut senders = all.values().filter(is_sender).map(|sender| sender.image);
        let first = senders.clone().next();
        let sender = senders.find(|sender| speaks_to(sender, image)).or(first);
        sender.map_or(Sender::Gone, |sender| Sender::Another(sender.inode))
    }

    /// What was closed is closed again, when it has sent what it had.
    fn close_partner(&mut self, image: &UnixImage, fd: &OwnedFd) -> Result<()> {
        let Link::Gone(name) = &image.link else { return Ok(()) };
        let closing = || "close the other end of a unix socket".to_string();
        match self.partners.remove(&image.inode) {
            Some(partner) => {
                if image.reset {
                    // Closed with something unread in its queue.
                    unix_messages::send(fd, b"x", &[], None, None).doing(closing)?;
                }
                drop(partner);
                Ok(())
            }
            None => {
                let partner = unix::unbound(image.kind)?;
                bind_and_connect(fd, &partner, name)
            }
        }
    }

    /// Connects a datagram socket to the one that it speaks to.
    fn speak_to(&self, image: &UnixImage, fd: &OwnedFd, all: &All<'_, '_>) -> Result<()> {
        match &image.link {
            Link::Inside(peer) if self.pairs.get(&image.inode) != Some(peer) => {
                let Some(peer) = all.get(peer) else { return Ok(()) };
                let address = Address::of(peer.fd)?;
                let connected = unix_messages::connect(fd, address.name());
                connected.doing(|| "connect a datagram socket within the process".into())
            }
            Link::Named(name) => unix_messages::connect(fd, name).map_err(|e| {
                let name = name.escape_ascii();
                Error::Refused(vec![format!(
                    "a datagram socket is connected to {name}, which cannot be had on the destination ({e}); start there what \
                     serves it, or let the program close the socket"
                )])
            }),
            _ => Ok(()),
        }
    }
}

enum Sender {
    /// What the receiver is connected to, by inode.
    Peer(u32),
    /// The other end that is not in the process.
    Partner,
    /// One that is not connected to it.
    Another(u32),
    /// One that has been closed since.
    Gone,
}

fn speaks_to(sender: &UnixImage, receiver: &UnixImage) -> bool {
    sender.link == Link::Inside(receiver.inode)
}

/// One in place of a sender that has been closed, with the same name.
fn helper<'h>(helpers: &'h mut HashMap<Vec<u8>, OwnedFd>, image: &UnixImage, name: &[u8]) -> Result<&'h OwnedFd> {
    if !helpers.contains_key(name) {
        let helper = unix::unbound(image.kind)?;
        bind(&helper, name)?;
        let raised = sockopt::set_int(&helper, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, i32::MAX / 2);
        raised.doing(|| "raise the send buffer of a unix socket".into())?;
        helpers.insert(name.to_vec(), helper);
    }
    helpers.get(name).ok_or_else(|| Error::Invalid("a message of nobody".into()))
}

/// Where others find a socket: its name, or its file, wherever that is now.
struct Address {
    name: Vec<u8>,
    /// What the name is about.
    _file: Option<OwnedFd>,
}

impl Address {
    fn of(socket: &OwnedFd) -> Result<Address> {
        let finding = || "find the address of a unix socket".to_string();
        let file = unix_messages::bound_file(socket).doing(finding)?;
        let name = match &file {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes(),
            None => unix_messages::name(socket).doing(finding)?,
        };
        if name.is_empty() {
            return Err(Error::Invalid("a datagram socket without a name is spoken to".into()));
        }
        Ok(Address { name, _file: file })
    }

    fn name(&self) -> &[u8] {
        &self.name
    }
}

/// Connects a datagram socket to one that will be gone.
fn bind_and_connect(fd: &OwnedFd, partner: &OwnedFd, name: &[u8]) -> Result<()> {
    bind(partner, name)?;
    let address = Address::of(partner)?;
    unix_messages::connect(fd, address.name()).doing(|| "connect a datagram socket to one that was closed".into())
}

/// Connects those that nobody has accepted yet, in their order.
fn connect_waiting(all: &All<'_, '_>, changed: &[&Finished<'_>], process: &mut dyn NewProcess) -> Result<()> {
    let mut calls: Calls<'_> = Vec::new();
    let mut fds = HashMap::new();
    let duplicate = |fd: &OwnedFd| fd.try_clone().doing(|| "duplicate a unix socket".into());
    for Finished { image, fd, .. } in changed {
        let Link::Listening { backlog, pending } = &image.link else { continue };
        if pending.is_empty() {
            continue;
        }
        let listener = End::Of(image.inode);
        fds.insert(listener, duplicate(fd)?);
        let owner = image.peer_owner.as_ref();
        let many = i32::try_from(pending.len()).map_err(|_| Error::Invalid("too many wait to be accepted".into()))?;
        if many > *backlog {
            calls.push((owner, Call::Listen { listener, backlog: many }));
        }
        for (i, inode) in pending.iter().enumerate() {
            let (client, connected_by) = match all.get(inode) {
                Some(client) => {
                    fds.insert(End::Of(*inode), duplicate(client.fd)?);
                    (End::Of(*inode), client.image.peer_owner.as_ref())
                }
                None => {
                    let end = End::Closed(image.inode, i);
                    fds.insert(end, unix::unbound(image.kind)?);
                    (end, owner)
                }
            };
            calls.push((connected_by, Call::Connect { client, listener, accepted: None }));
        }
        if many > *backlog {
            calls.push((owner, Call::Listen { listener, backlog: *backlog }));
        }
    }
    run(&calls, &mut fds, &HashMap::new(), process)
}

/// Send buffers that were made large for what is queued, and what they were.
#[derive(Default)]
struct Limits<'a>(Vec<(&'a OwnedFd, i32, i32)>);

const SO_BUF_LOCK: i32 = 72;

impl<'a> Limits<'a> {
    fn raise(&mut self, sender: &'a OwnedFd) -> Result<()> {
        if self.0.iter().any(|(known, ..)| known.as_raw_fd() == sender.as_raw_fd()) {
            return Ok(());
        }
        let raising = || "raise the send buffer of a unix socket".to_string();
        let get = |name| sockopt::get_int(sender, libc::SOL_SOCKET, name).doing(raising);
        self.0.push((sender, get(libc::SO_SNDBUF)?, get(SO_BUF_LOCK)?));
        sockopt::set_int(sender, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, i32::MAX / 2).doing(raising)
    }

    fn put_back(self) -> Result<()> {
        for (sender, size, locks) in self.0 {
            let set = |name, value| sockopt::set_int(sender, libc::SOL_SOCKET, name, value);
            let set = set(libc::SO_SNDBUFFORCE, size / 2).and_then(|()| set(SO_BUF_LOCK, locks));
            set.doing(|| "put the send buffer of a unix socket back".into())?;
        }
        Ok(())
    }
}

/// A message of no bytes that has been peeked at cannot be read again (net/core/datagram.c, `__skb_try_recv_from_queue`): then what was
/// sent here weighs less than there.
fn compare_weights(all: &All<'_, '_>, changed: &[&Finished<'_>]) -> Result<()> {
    if changed.iter().all(|socket| socket.image.sent == 0 && socket.image.queue.is_empty()) {
        return Ok(());
    }
    let (mut there, mut here) = (0, 0);
    for socket in all.values() {
        // What others send may be under way to another process too.
        let compared = matches!(socket.image.link, Link::Inside(_)) && socket.image.kind != libc::SOCK_STREAM;
        if compared && socket.image.sent > 0 {
            there += socket.image.sent as usize;
            here += unix_queue::weight(socket.fd).doing(|| "weigh what is queued in unix sockets".into())?;
        }
    }
    // Less than that no message weighs.
    if here + 256 < there {
        return Err(Error::Refused(vec![format!(
            "a unix socket has a message of no bytes in its queue that has been peeked at (MSG_PEEK), and cannot be read a \
             second time ({here} of {there} bytes could be); let the program receive it"
        )]));
    }
    Ok(())
}
