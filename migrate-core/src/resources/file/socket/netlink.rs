//! Netlink sockets (netlink(7)): protocol, port ID, peer, multicast groups, options, classic filter, flags.
//!
//! Refused: one in which messages wait (an answer that the program has not read would be lost), and protocols through which a
//! program registers itself with the kernel in ways that nobody shows (netfilter, audit, connector).

use std::os::fd::{AsRawFd, OwnedFd};

use bincode::{Decode, Encode};
use migrate_linux::{libc, sockopt};
use nix::sys::socket::{NetlinkAddr, bind, connect, getpeername, getsockname};
use rustix::event::PollFlags;

use super::options::SocketOptions;
use super::{fresh, of_descriptor, polled};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{
    FileKind, FileView, HeldFile, NewFiles, Others, SocketView, flags_now, or_instead, set_flags,
};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NetlinkImage {
    sort: (i32, i32, i32),
    options: SocketOptions,
    /// 0: it has none yet.
    port: u32,
    /// Port ID and groups to which it sends what is for nobody else.
    peer: (u32, u32),
    /// The groups by their numbers, the first being 1.
    groups: Vec<u32>,
    flags: i32,
}

/// The kind.
pub enum Netlink {}

/// Words of a bit map of groups at most; the kernel's largest family has some hundred groups.
const WORDS: usize = 512;

impl FileKind for Netlink {
    const NAME: &'static str = "netlink socket";
    const MOVES: &'static str = "protocol, port ID, groups, options, classic filter; not one with messages waiting, nor those of netfilter, audit and connector";
    type Image = NetlinkImage;

    fn recognise(view: &FileView) -> bool {
        view.socket.is_some_and(|s| s.domain == libc::AF_NETLINK)
    }

    fn preflight(view: &FileView) -> Verdict {
        let why = match view.socket.map_or(0, |s| s.protocol) {
            libc::NETLINK_NETFILTER => "netfilter: what it has asked of the kernel (queues, logs)",
            libc::NETLINK_AUDIT => "audit: what it has asked of the kernel",
            libc::NETLINK_CONNECTOR => "the connector: what it has asked of the kernel",
            _ => return Verdict::Supported,
        };
        let number = view.number;
        Verdict::Unsupported(format!(
            "fd {number}: a netlink socket of {why} does not show, so it cannot move; {}",
            or_instead(&[number])
        ))
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<NetlinkImage> {
        let (number, socket) = (from.view.number, &from.duplicate);
        let sort = from.view.socket.ok_or_else(|| Error::Invalid(format!("fd {number}: no socket")))?;
        if polled(socket)?.intersects(PollFlags::IN | PollFlags::ERR) {
            return Err(Error::Refused(vec![format!(
                "fd {number}: a netlink socket with messages that the program has not read, which cannot move; try again when it has"
            )]));
        }
        let options = SocketOptions::capture(socket, sort, others.fresh).map_err(|e| of_descriptor(number, sort, e))?;
        let name = |call: fn(i32) -> nix::Result<NetlinkAddr>| {
            call(socket.as_raw_fd()).map_err(Into::into).doing(|| "read the port ID of a netlink socket".into())
        };
        let peer = name(getpeername)?;
        Ok(NetlinkImage {
            sort: (sort.domain, sort.kind, sort.protocol),
            options,
            port: name(getsockname)?.pid(),
            peer: (peer.pid(), peer.groups()),
            groups: groups(socket)?,
            flags: flags_now(from)?,
        })
    }

    fn create(image: &NetlinkImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let (domain, kind, protocol) = image.sort;
        let sort = SocketView { domain, kind, protocol };
        if domain != libc::AF_NETLINK || image.groups.len() > WORDS * 32 {
            return Err(Error::Invalid("a netlink socket that cannot be".into()));
        }
        let socket = fresh(sort)?;
        image.options.restore(&socket, sort)?;
        image.options.restore_last(&socket, sort)?;
        if image.port != 0 {
            let bound = bind(socket.as_raw_fd(), &NetlinkAddr::new(image.port, 0)).map_err(Into::into);
            bound.doing(|| format!("bind a netlink socket of protocol {protocol} to port ID {}", image.port))?;
        }
        for group in &image.groups {
            let joined = sockopt::set(&socket, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group.to_ne_bytes());
            joined.doing(|| format!("join group {group} of netlink protocol {protocol}"))?;
        }
        if image.peer != (0, 0) {
            let connected = connect(socket.as_raw_fd(), &NetlinkAddr::new(image.peer.0, image.peer.1));
            connected.map_err(Into::into).doing(|| "connect a netlink socket".into())?;
        }
        set_flags(&socket, image.flags)?;
        Ok(socket)
    }
}

fn groups(socket: &OwnedFd) -> Result<Vec<u32>> {
    let mut words = [0; WORDS * 4];
    let length = sockopt::get(socket, libc::SOL_NETLINK, libc::NETLINK_LIST_MEMBERSHIPS, &mut words)
        .doing(|| "read the groups of a netlink socket".into())?;
    let bytes = words.iter().take(length).zip(0u32..);
    // A bit map of 32-bit words, little-endian on this machine.
    let joined =
        bytes.flat_map(|(byte, n)| (0..8).filter(move |bit| byte & 1 << bit != 0).map(move |bit| n * 8 + bit + 1));
    Ok(joined.collect())
}
