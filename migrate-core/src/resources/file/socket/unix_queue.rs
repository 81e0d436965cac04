//! What is in the queue of a unix socket: read without taking it, and sent again by the same sender.
//!
//! Only of a process that stands still: reading moves the peek offset for a moment, and takes an error (ECONNRESET) that comes just then.
//! A peek offset (SO_PEEK_OFF) shows one message after the other; it is put back at once. A stream gives in one go what was sent
//! before some descriptors and what came with them (net/unix/af_unix.c, `unix_stream_read_generic`), and nothing tells where the latter
//! begins. It is known when that is a single byte, or when what waits weighs as much as it would without anything before: else such a
//! stream is refused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bincode::{Decode, Encode};
use migrate_linux::unix_messages::{self, Credentials, Peeked};
use migrate_linux::{libc, sockopt};
use rustix::event::PollFlags;

use super::unix::UnixView;
use crate::error::{Doing, Error, Result};
use crate::image::ObjectId;
use crate::resources::file::{HeldFile, Made, Others, polled};

/// A message, or a piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Message {
    pub(super) bytes: Vec<u8>,
    /// In flight with it.
    pub(super) descriptors: Vec<ObjectId>,
    /// Process, user and group that sent it, where the receiver wants to know.
    pub(super) sender: Option<(i32, u32, u32)>,
    /// The name of the socket that sent it. Empty: it has none.
    pub(super) from: Vec<u8>,
}

/// A message as it was read.
#[derive(Debug)]
pub struct Queued {
    bytes: Vec<u8>,
    /// Duplicates of what is in flight with it.
    pub(super) descriptors: Vec<OwnedFd>,
    credentials: Option<Credentials>,
    from: Vec<u8>,
}

/// So much may be in one queue: the largest send buffer that there can be is 2 GiB, but who has that moves nothing in time.
const QUEUE_LIMIT: usize = 32 << 20;
/// Bytes of the first try to read a message.
const MESSAGE_ROOM: usize = 4096;

/// Reads the queue of a process that stands still.
pub(super) fn read(socket: &OwnedFd, view: &UnixView) -> io::Result<Vec<Queued>> {
    let told = &view.told;
    let stream = told.kind == libc::SOCK_STREAM;
    if !view.still || told.listening || stream && told.waiting == 0 {
        return Ok(Vec::new());
    }
    // Reading anything but a stream that holds something tells of an error first, and takes it.
    if !stream && polled(socket, PollFlags::PRI)?.contains(PollFlags::ERR) {
        return match told.waiting {
            0 => Ok(Vec::new()),
            _ => {
                Err(io::Error::other("an error (ECONNRESET) waits before what is in it; let the program receive both"))
            }
        };
    }
    if told.waiting as usize > QUEUE_LIMIT {
        return Err(io::Error::other(format!("{} bytes wait in it; {QUEUE_LIMIT} can move", told.waiting)));
    }
    // Of packets that can come no more, no bytes are a message, or the end. Only a message has a sender.
    let packets_end = told.kind == libc::SOCK_SEQPACKET && told.shutdown & 1 != 0;
    let names_senders = packets_end.then(|| NamesSenders::begin(socket)).transpose()?;
    let offset = PeekOffset::of(socket)?;
    let mut read = Vec::new();
    let mut done = 0;
    loop {
        if done > 0 || !read.is_empty() || offset.before >= 0 {
            offset.set(done)?;
        }
        let room = if stream { (told.waiting as usize).saturating_sub(done) } else { MESSAGE_ROOM };
        let Some(mut message) = next(socket, room, &offset, done, &read)? else { break };
        let length = message.bytes.len();
        let is_end = match &names_senders {
            Some(_) => message.credentials.is_none(),
            None => stream && done >= told.waiting as usize,
        };
        if length == 0 && is_end {
            break;
        }
        if names_senders.as_ref().is_some_and(|names| !names.did_before) {
            message.credentials = None;
        }
        read.push(message);
        done += length;
        if stream && done >= told.waiting as usize {
            break;
        }
    }
    Ok(read)
}

/// Reads the message at the offset `done`, however long it is.
fn next(
    socket: &OwnedFd,
    mut room: usize,
    offset: &PeekOffset<'_>,
    done: usize,
    before: &[Queued],
) -> io::Result<Option<Queued>> {
    loop {
        let mut bytes = vec![0; room];
        let Some(Peeked { length, cut, descriptors, credentials, from }) = unix_messages::peek(socket, &mut bytes)?
        else {
            return Ok(None);
        };
        if !cut {
            bytes.truncate(length);
            return Ok(Some(Queued { bytes, descriptors, credentials, from }));
        }
        if room > QUEUE_LIMIT {
            return Err(io::Error::other(format!("a message of more than {QUEUE_LIMIT} bytes")));
        }
        room *= 8;
        if done > 0 || !before.is_empty() || offset.before >= 0 {
            offset.set(done)?;
        }
    }
}

/// A socket that tells who has sent what it receives (SO_PASSCRED). Dropped, it is as it was.
struct NamesSenders<'a> {
    socket: &'a OwnedFd,
    did_before: bool,
}

impl<'a> NamesSenders<'a> {
    fn begin(socket: &'a OwnedFd) -> io::Result<NamesSenders<'a>> {
        let did_before = sockopt::get_int(socket, libc::SOL_SOCKET, libc::SO_PASSCRED)? != 0;
        if !did_before {
            sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_PASSCRED, 1)?;
        }
        Ok(NamesSenders { socket, did_before })
    }
}

impl Drop for NamesSenders<'_> {
    fn drop(&mut self) {
        if !self.did_before && sockopt::set_int(self.socket, libc::SOL_SOCKET, libc::SO_PASSCRED, 0).is_err() {
            tracing::error!("SO_PASSCRED of a unix socket could not be taken back");
        }
    }
}

/// The peek offset of a socket, put back when this is dropped.
struct PeekOffset<'a> {
    socket: &'a OwnedFd,
    before: i32,
    changed: std::cell::Cell<bool>,
}

impl<'a> PeekOffset<'a> {
    fn of(socket: &'a OwnedFd) -> io::Result<PeekOffset<'a>> {
        let before = sockopt::get_int(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF)?;
        Ok(PeekOffset { socket, before, changed: std::cell::Cell::new(false) })
    }

    fn set(&self, to: usize) -> io::Result<()> {
        self.changed.set(true);
        let to = i32::try_from(to).map_err(|_| io::ErrorKind::InvalidData)?;
        sockopt::set_int(self.socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, to)
    }
}

impl Drop for PeekOffset<'_> {
    fn drop(&mut self) {
        // It was a value that this socket had.
        if self.changed.get()
            && sockopt::set_int(self.socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, self.before).is_err()
        {
            tracing::error!("the peek offset of a unix socket could not be put back to {}", self.before);
        }
    }
}

/// Reads the queue of a socket whose process stands still.
pub(super) fn capture(from: &HeldFile, view: &UnixView, others: &Others<'_>) -> Result<Vec<Message>> {
    let number = from.view.number;
    let queue = view.queue(&from.duplicate).doing(|| format!("read the queue of descriptor {number}"))?;
    let stream = view.told.kind == libc::SOCK_STREAM;
    if stream && queue.iter().any(|piece| !piece.descriptors.is_empty() && piece.bytes.len() > 1) {
        let weight = weight_of(queue).doing(|| "weigh what waits in a socket".into())?;
        if view.weight != Some(weight) {
            return Err(Error::Refused(vec![format!(
                "fd {number}: descriptors are in flight in a stream together with what was sent before them, and where they belong cannot \
                 be told; let the program receive them"
            )]));
        }
    }
    let mut messages = Vec::with_capacity(queue.len());
    for Queued { bytes, descriptors, credentials, from: name } in queue {
        let sender = credentials.filter(|sender| sender.pid != 0);
        if let Some(sender) = sender
            && sender.pid != from.process.pid
        {
            return Err(Error::Refused(vec![format!(
                "fd {number}: a message in it is from process {} (SCM_CREDENTIALS), which does not move; let the program receive it",
                sender.pid
            )]));
        }
        let descriptors: Result<Vec<ObjectId>> = descriptors.iter().map(|fd| others.object_of(fd)).collect();
        let sender = sender.map(|sender| (sender.pid, sender.uid, sender.gid));
        messages.push(Message { bytes: bytes.clone(), descriptors: descriptors?, sender, from: name.clone() });
    }
    Ok(messages)
}

/// What these pieces of a stream weigh, each sent by one call.
fn weight_of(queue: &[Queued]) -> io::Result<usize> {
    let (sender, _receiver) = std::os::unix::net::UnixStream::pair()?;
    sockopt::set_int(&sender, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, i32::MAX / 2)?;
    for piece in queue {
        if unix_messages::send(&sender, &piece.bytes, &[], None, None)? < piece.bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    migrate_linux::sockets::bytes_sent(&sender)
}

/// What a sender's messages that nobody has received weigh.
pub(super) fn weight(sender: &OwnedFd) -> io::Result<usize> {
    migrate_linux::sockets::bytes_sent(sender)
}

/// What an empty message weighs at least; a stream's is parted so that it weighs what it did.
const LEAST_WEIGHT: usize = 768;

/// Sends the message again. `to`: the receiver, if the sender is not connected to it. `weight_left`: what is still to be sent weighs so
/// much on the source.
pub(super) fn send(
    message: &Message,
    sender: &OwnedFd,
    to: Option<&[u8]>,
    stream: bool,
    weight_left: usize,
    made: &Made<'_>,
) -> Result<()> {
    let descriptors: Result<Vec<_>> = message.descriptors.iter().map(|object| Ok(made.fd(*object)?.as_fd())).collect();
    let descriptors = descriptors?;
    let credentials = message.sender.map(|(pid, uid, gid)| Credentials { pid, uid, gid });
    let filling = || format!("fill a unix socket with a message of {} bytes", message.bytes.len());
    if !stream {
        return match unix_messages::send(sender, &message.bytes, &descriptors, credentials, to) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Refused(vec![
                "more datagrams wait in a unix socket than one may hold on the destination; raise net.unix.max_dgram_qlen there".into(),
            ])),
            sent => sent.map(drop).doing(filling),
        };
    }
    let begin = weight(sender).doing(filling)?;
    let (mut rest, mut descriptors) = (message.bytes.as_slice(), descriptors.as_slice());
    while !rest.is_empty() {
        let now = weight(sender).doing(filling)?.saturating_sub(begin);
        let spare = weight_left.saturating_sub(now).saturating_sub(rest.len());
        let pieces = match descriptors {
            [] => spare.div_ceil(LEAST_WEIGHT).clamp(1, rest.len()),
            _ => 1,
        };
        let piece = rest.get(..rest.len().div_ceil(pieces)).unwrap_or(rest);
        let sent = unix_messages::send(sender, piece, descriptors, credentials, to).doing(filling)?;
        descriptors = &[];
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}
