//! UDP and UDP-Lite, IPv4 and IPv6 (udp(7), udplite(7)): where it is bound and connected, options, filter, multicast groups,
//! datagrams that wait with their senders, which side is shut down, flags.
//!
//! It is bound in the freeze, before the commit: whether its port can be had must be known by then, and what a datagram that arrives
//! in these milliseconds meets, a socket or none, nobody can rely on.
//!
//! Data that it holds back (UDP_CORK, MSG_MORE) stays, and the process with it: the kernel gives it to nobody but its receiver. It is in
//! pages that a BPF program can only read by the layout of the kernel's own address space, with a route that has been chosen already, and
//! any way to look at it from outside would send or drop it.
//!
//! Lost: what came beside a waiting datagram (time stamp, time to live, interface), errors that wait (an ICMP answer, the error
//! queue), an empty datagram that was peeked at before, and that sending alone is shut down.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::{libc, sockets};
use rustix::event::PollFlags;
use rustix::net::Shutdown;

use super::address::Bound;
use super::datagrams::{Datagram, peek_all, put_in};
use super::memberships::Membership;
use super::options::FreshOptions;
use super::{name_of, polled};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{FileKind, FileView, HeldFile, NewFiles, Others, SocketView, flags_now, set_flags};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UdpImage {
    bound: Bound,
    memberships: Vec<Membership>,
    waiting: Vec<Datagram>,
    /// SHUT_RD; SHUT_RDWR
    shut: (bool, bool),
    flags: i32,
}

/// The kind.
pub enum Udp {}

impl FileKind for Udp {
    const NAME: &'static str = "UDP socket";
    const MOVES: &'static str = "UDP and UDP-Lite: address, port, device, peer, reuseport groups, options, classic filter, multicast groups with their senders, datagrams that wait; not what came beside these (time stamps), nor errors that wait, nor corked data. The address must be on the destination, and the port free";
    type Image = UdpImage;

    fn recognise(view: &FileView) -> bool {
        let of = |SocketView { domain, kind, protocol }| {
            matches!(domain, libc::AF_INET | libc::AF_INET6)
                && kind == libc::SOCK_DGRAM
                && matches!(protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE)
        };
        view.socket.is_some_and(of)
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        super::group_program(from)
    }

    fn address(from: &HeldFile, fresh: &FreshOptions) -> Result<Option<Bound>> {
        Bound::of(from, fresh)
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<UdpImage> {
        let (number, socket) = (from.view.number, &from.duplicate);
        let sort = from.view.socket.ok_or_else(|| Error::Invalid(format!("fd {number}: no socket")))?;
        let bound = Bound::capture(socket, sort, others.fresh).map_err(|e| super::of_descriptor(number, sort, e))?;
        if sockets::bytes_sent(socket).doing(|| format!("read what descriptor {number} sends"))? != 0 {
            return Err(Error::Refused(vec![format!(
                "fd {number}: a {} with data that it holds back (UDP_CORK, MSG_MORE) or that is just being sent; try again, or let the program send it",
                name_of(sort)
            )]));
        }
        let events = polled(socket)?;
        let shut = (events.contains(PollFlags::RDHUP), events.contains(PollFlags::HUP));
        let waiting = match events.contains(PollFlags::IN) {
            true => peek_all(socket).map_err(|e| super::of_descriptor(number, sort, e))?,
            false => Vec::new(),
        };
        let memberships = others.groups.of(socket, sort.domain == libc::AF_INET6)?;
        Ok(UdpImage { bound, memberships, waiting, shut, flags: flags_now(from)? })
    }

    fn create(image: &UdpImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let bound = &image.bound;
        let mut socket = bound.make(!image.waiting.is_empty())?;
        put_in(&image.waiting, &socket, bound)?;
        socket = bound.connect(socket)?;
        image.memberships.iter().try_for_each(|one| one.restore(&socket))?;
        let how = match image.shut {
            (_, true) => Some(Shutdown::Both),
            (true, false) => Some(Shutdown::Read),
            (false, false) => None,
        };
        if let Some(how) = how {
            rustix::net::shutdown(&socket, how).map_err(Into::into).doing(|| "shut a socket down".into())?;
        }
        bound.options.restore_last(&socket, bound.sort())?;
        set_flags(&socket, image.flags)?;
        Ok(socket)
    }
}
