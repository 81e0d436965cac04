//! UDP and UDP-Lite, IPv4 and IPv6 (udp(7), udplite(7)): where it is bound and connected, options, filter, multicast groups,
//! datagrams that wait with their senders, data that it holds back, which side is shut down, flags.
//!
//! It is bound in the freeze, before the commit: whether its port can be had must be known by then, and what a datagram that arrives
//! in these milliseconds meets, a socket or none, nobody can rely on.
//!
//! What it holds back (UDP_CORK, MSG_MORE) moves with the eBPF probes: see [`super::corked`].
//!
//! Lost: what came beside a waiting datagram (time stamp, time to live, interface), errors that wait (an ICMP answer, the error
//! queue), an empty datagram that was peeked at before, and that sending alone is shut down.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::libc;
use rustix::event::PollFlags;
use rustix::net::Shutdown;

use super::address::Bound;
use super::corked::{self, CorkedImage};
use super::datagrams::{Datagram, peek_all, put_in};
use super::memberships::Membership;
use super::options::FreshOptions;
use super::polled;
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{FileKind, FileView, HeldFile, NewFiles, Others, SocketView, flags_now, set_flags};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UdpImage {
    bound: Bound,
    memberships: Vec<Membership>,
    waiting: Vec<Datagram>,
    corked: Option<CorkedImage>,
    /// SHUT_RD; SHUT_RDWR
    shut: (bool, bool),
    flags: i32,
}

/// The kind.
pub enum Udp {}

impl FileKind for Udp {
    const NAME: &'static str = "UDP socket";
    const MOVES: &'static str = "UDP and UDP-Lite: address, port, device, peer, reuseport groups, options, classic filter, multicast groups with their senders, datagrams that wait, data that is held back (UDP_CORK, MSG_MORE; with the eBPF probes, else the process stays); not what came beside these (time stamps), nor errors that wait. The address must be on the destination, and the port free";
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
        let corked = corked::capture(from, sort, others.corked)?;
        let events = polled(socket)?;
        let shut = (events.contains(PollFlags::RDHUP), events.contains(PollFlags::HUP));
        let waiting = match events.contains(PollFlags::IN) {
            true => peek_all(socket).map_err(|e| super::of_descriptor(number, sort, e))?,
            false => Vec::new(),
        };
        let memberships = others.groups.of(socket, sort.domain == libc::AF_INET6)?;
        Ok(UdpImage { bound, memberships, waiting, corked, shut, flags: flags_now(from)? })
    }

    fn create(image: &UdpImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let bound = &image.bound;
        let mut socket = bound.make(!image.waiting.is_empty())?;
        put_in(&image.waiting, &socket, bound)?;
        socket = bound.connect(socket)?;
        image.memberships.iter().try_for_each(|one| one.restore(&socket))?;
        if let Some(corked) = &image.corked {
            corked.restore(&socket, bound.sort())?;
        }
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
