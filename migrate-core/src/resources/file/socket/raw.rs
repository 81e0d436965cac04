//! Raw sockets and those of ping, IPv4 and IPv6 (raw(7), icmp(7)): protocol, address, peer, device, options (IP_HDRINCL, ICMP_FILTER,
//! IPV6_CHECKSUM), filter, multicast groups, flags. A ping socket's port is the identifier of its echo requests.
//!
//! Lost: packets that wait, and errors. Such sockets see copies of what passes, and what passes there is not what passed here.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::libc;

use super::address::{Address, Bound, connect_to};
use super::memberships::Membership;
use super::of_descriptor;
use super::options::FreshOptions;
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{FileKind, FileView, HeldFile, NewFiles, Others, SocketView, flags_now, set_flags};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RawImage {
    bound: Bound,
    memberships: Vec<Membership>,
    flags: i32,
}

/// The kind.
pub enum Raw {}

impl FileKind for Raw {
    const NAME: &'static str = "raw or ping socket";
    const MOVES: &'static str =
        "protocol, address, peer, device, options, classic filter, multicast groups; not packets that wait";
    type Image = RawImage;

    fn recognise(view: &FileView) -> bool {
        view.socket.is_some_and(|s| {
            let ping = matches!(s.protocol, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6);
            matches!(s.domain, libc::AF_INET | libc::AF_INET6)
                && (s.kind == libc::SOCK_RAW || s.kind == libc::SOCK_DGRAM && ping)
        })
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn address(from: &HeldFile, fresh: &FreshOptions) -> Result<Option<Bound>> {
        Bound::of(from, fresh)
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<RawImage> {
        let number = from.view.number;
        let sort = from.view.socket.ok_or_else(|| Error::Invalid(format!("fd {number}: no socket")))?;
        let mut bound =
            Bound::capture(&from.duplicate, sort, others.fresh).map_err(|e| of_descriptor(number, sort, e))?;
        if bound.peer.is_none() {
            // Connected without a port, as is usual here, it says that it is not connected.
            let inode = from.view.stat.st_ino;
            bound.peer = shown_peer(sort, inode)?.map(|ip| Address::of((ip, 0).into())).transpose()?;
        }
        if sort.kind == libc::SOCK_RAW {
            // It has none: the protocol is in its place.
            bound.local.port = 0;
        }
        let memberships = others.groups.of(&from.duplicate, sort.domain == libc::AF_INET6)?;
        Ok(RawImage { bound, memberships, flags: flags_now(from)? })
    }

    fn create(image: &RawImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let bound = &image.bound;
        let socket = bound.make(true)?;
        if let Some(peer) = &bound.peer {
            connect_to(&socket, peer)?;
        }
        image.memberships.iter().try_for_each(|one| one.restore(&socket))?;
        bound.options.restore_last(&socket, bound.sort())?;
        set_flags(&socket, image.flags)?;
        Ok(socket)
    }
}

/// The address to which one is connected, as /proc/net shows it.
fn shown_peer(sort: SocketView, inode: u64) -> Result<Option<IpAddr>> {
    let path = match (sort.kind, sort.domain) {
        (libc::SOCK_RAW, libc::AF_INET) => "/proc/net/raw",
        (libc::SOCK_RAW, _) => "/proc/net/raw6",
        (_, libc::AF_INET) => "/proc/net/icmp",
        _ => "/proc/net/icmp6",
    };
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(peer_in(&text, inode))
}

/// `  1: 00000000:0001 0100007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 9379830 2 ...`: the peer is the third
/// field, its address in words as they are in memory, and the inode the tenth (net/ipv4/raw.c). None: there is no peer.
fn peer_in(text: &str, inode: u64) -> Option<IpAddr> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(9).and_then(|f| f.parse().ok()) == Some(inode))?;
    let (address, _port) = line.get(2)?.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from([word(0)?, word(1)?, word(2)?, word(3)?].concat()).ok()?).into(),
    };
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref\n\
            1: 00000000:0001 0100007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 77 2 0 0\n\
            2: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 78 2 0 0\n\
            58: 00000000000000000000000000000000:003A B80D0120000000000000000001000000:0000 01 00000000:00000000 00:00000000 00000000 0 0 79 2 0 0\n";
        assert_eq!(peer_in(text, 77), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(peer_in(text, 78), None);
        assert_eq!(peer_in(text, 79), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(peer_in(text, 80), None);
        assert_eq!(peer_in("1: x y z 1 2 3 4 5 77\n1: a b: 1 2 3 4 5 6 77", 77), None);
    }
}
