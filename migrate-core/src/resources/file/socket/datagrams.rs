//! Datagrams that wait in a UDP socket: read without taking them, and put into the new socket.
//!
//! Reading: `SO_PEEK_OFF` walks from one to the next under `MSG_PEEK` (net/core/datagram.c, `__skb_try_recv_from_queue`). It passes
//! over an empty datagram that was peeked at before.
//!
//! Putting in: the kernel has no way but the network, so each is sent again over the loopback interface, by a raw socket that
//! writes the headers itself, with the sender's address as it was (raw(7), IP_HDRINCL). Nothing leaves the host.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use bincode::{Decode, Encode};
use migrate_linux::{libc, sockopt};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendto};

use super::address::{Address, Bound, connect_to, to_std};
use super::{SocketView, fresh};
use crate::error::{Doing, Error, Result};

/// One that waits.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Datagram {
    from: Address,
    /// The address that it was sent to, where the program has asked to be told (IP_PKTINFO).
    to: Option<IpAddr>,
    data: Vec<u8>,
}

/// So many bytes at most wait in a socket that can move.
const QUEUE_LIMIT: usize = 64 << 20;

/// Larger than any datagram.
const ROOM: usize = 1 << 16;

/// Copies what waits.
pub fn peek_all(socket: &OwnedFd) -> Result<Vec<Datagram>> {
    let peek_offset = || sockopt::get_int(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF);
    let set_peek_offset = |to| sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, to);
    let before = peek_offset().doing(|| "read SO_PEEK_OFF".into())?;
    set_peek_offset(0).doing(|| "set SO_PEEK_OFF".into())?;
    let peeked = peek_each(socket);
    set_peek_offset(before).doing(|| "set SO_PEEK_OFF again".into())?;
    peeked
}

fn peek_each(socket: &OwnedFd) -> Result<Vec<Datagram>> {
    let (mut found, mut total) = (Vec::new(), 0);
    let mut room = vec![0; ROOM];
    let mut control = nix::cmsg_space!([u8; 1024]);
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let mut refused_before = false;
    loop {
        let mut into = [IoSliceMut::new(&mut room)];
        let message = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(&mut control), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(found),
            // An error that waited, about what was sent before: it is told once.
            Err(_) if !refused_before => {
                refused_before = true;
                continue;
            }
            Err(e) => return Err(Error::io("read the datagrams that wait in a socket".into(), e.into())),
        };
        let length = message.bytes;
        let from = message.address.as_ref().and_then(to_std);
        let (mut to, mut segment) = (None, None);
        for told in message.cmsgs().map_err(io::Error::from).doing(|| "read what comes with a datagram".into())? {
            match told {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    to = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                // Several of one sender that the kernel shows as one (UDP_GRO).
                ControlMessageOwned::UdpGroSegments(size) => segment = usize::try_from(size).ok(),
                _ => {}
            }
        }
        let from = Address::of(from.ok_or_else(|| Error::Invalid("a datagram from nowhere".into()))?)?;
        let data = room.get(..length).ok_or_else(|| Error::Invalid(format!("a datagram of {length} bytes")))?;
        total += length;
        if total > QUEUE_LIMIT {
            return Err(Error::Refused(vec![format!(
                "more than {} MiB of datagrams wait in a socket",
                QUEUE_LIMIT >> 20
            )]));
        }
        let one = |data: &[u8]| Datagram { from: from.clone(), to, data: data.to_vec() };
        match segment.filter(|size| *size > 0 && *size < length) {
            Some(size) => found.extend(data.chunks(size).map(one)),
            None => found.push(one(data)),
        }
    }
}

/// Puts them into a socket which has been bound and not yet connected.
pub fn put_in(datagrams: &[Datagram], socket: &OwnedFd, bound: &Bound) -> Result<()> {
    if datagrams.is_empty() {
        return Ok(());
    }
    let room = sockopt::get_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF).doing(|| "read SO_RCVBUF".into())?;
    let needed = datagrams.iter().map(|d| d.data.len() + 4096).sum::<usize>() * 2;
    set_room(socket, i32::try_from(needed).unwrap_or(i32::MAX / 2).max(room))?;
    let number = |level, name| bound.options.number_of(level, name).unwrap_or(0);
    let shared = number(libc::SOL_SOCKET, libc::SO_REUSEPORT) != 0 || number(libc::SOL_SOCKET, libc::SO_REUSEADDR) != 0;
    let device = bound.options.bytes_of(libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
    let mut raw: [Option<OwnedFd>; 2] = [None, None];
    for datagram in datagrams {
        if shared {
            // Among several with one port the one that is connected to the sender gets it. Where no way leads to the sender from here,
            // it goes to any of them; that it came to another is found below.
            let _ = connect_to(socket, &datagram.from);
        }
        let (from, to) = ends(datagram, bound, device)?;
        let domain = if from.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let place = &mut raw[usize::from(from.is_ipv6())];
        let sort = SocketView { domain, kind: libc::SOCK_RAW, protocol: libc::IPPROTO_RAW };
        let raw = match place {
            Some(raw) => raw,
            None => place.insert(fresh(sort)?),
        };
        let before = memory_used(socket)?;
        let packet = packet(from, to, bound.sort().protocol, &datagram.data);
        let mut target = to;
        target.set_port(0);
        sendto(raw.as_raw_fd(), &packet, &SockaddrStorage::from(target), MsgFlags::empty())
            .map_err(Into::into)
            .doing(|| format!("put a datagram from {from} into the socket at {to}"))?;
        if memory_used(socket)? <= before {
            return Err(Error::Refused(vec![format!(
                "a datagram from {from} that waits in the socket at {to} cannot be put into it here: a rule of this host's firewall, or its loopback interface being down, keeps it out; allow it, or try again when the program has read it"
            )]));
        }
    }
    if shared {
        disconnect(socket)?;
    }
    set_room(socket, room)?;
    // As if nobody had set it; what the program has set comes last.
    let untouched = sockopt::get_int(socket, libc::SOL_SOCKET, BUF_LOCK).unwrap_or(0) & !RCVBUF_LOCK;
    let _ = sockopt::set_int(socket, libc::SOL_SOCKET, BUF_LOCK, untouched);
    Ok(())
}

/// SO_BUF_LOCK and SOCK_RCVBUF_LOCK of include/uapi/asm-generic/socket.h, include/uapi/linux/socket.h.
const BUF_LOCK: i32 = 72;
const RCVBUF_LOCK: i32 = 2;

fn set_room(socket: &OwnedFd, whole: i32) -> Result<()> {
    let set = sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, whole / 2);
    set.doing(|| format!("make room for {whole} bytes in a socket"))
}

/// What waits in it, in bytes of the kernel's memory (SO_MEMINFO, SK_MEMINFO_RMEM_ALLOC).
fn memory_used(socket: &OwnedFd) -> Result<i32> {
    sockopt::get_int(socket, libc::SOL_SOCKET, libc::SO_MEMINFO).doing(|| "read how much waits in a socket".into())
}

fn disconnect(socket: &OwnedFd) -> Result<()> {
    rustix::net::connect_unspec(socket).map_err(Into::into).doing(|| "disconnect a socket".into())
}

/// From and to where it is sent again. What was sent to another address than one of this host's could not get there.
fn ends(datagram: &Datagram, bound: &Bound, device: Option<&[u8]>) -> Result<(SocketAddr, SocketAddr)> {
    let from = datagram.from.here().doing(|| "send a datagram again".into())?;
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let from = if from.ip().to_canonical().is_ipv4() { plain(from) } else { from };
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast() && *ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    let local = bound.local.here().doing(|| "send a datagram again".into())?;
    let to = datagram.to.map(|ip| ip.to_canonical()).filter(|ip| usable(ip) && ip.is_ipv4() == from.is_ipv4());
    let ip = match to {
        Some(ip) => ip,
        None if usable(&local.ip()) => local.ip().to_canonical(),
        None => match device {
            Some(device) => address_of(device, from.is_ipv4())?,
            None if from.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            None => Ipv6Addr::LOCALHOST.into(),
        },
    };
    if ip.is_ipv4() != from.is_ipv4() {
        return Err(Error::Invalid(format!("a datagram from {from} in the socket at {local}")));
    }
    let mut to = local;
    if ip != to.ip() {
        to = SocketAddr::new(ip, to.port());
    }
    Ok((from, to))
}

/// One of an interface's own addresses.
fn address_of(device: &[u8], v4: bool) -> Result<IpAddr> {
    let name = String::from_utf8_lossy(device.strip_suffix(b"\0").unwrap_or(device)).into_owned();
    let all = nix::ifaddrs::getifaddrs().map_err(Into::into).doing(|| "list the addresses of this host".into())?;
    let mut of_device = all.filter(|one| one.interface_name == name).filter_map(|one| to_std(&one.address?));
    let found = of_device.find(|address| address.is_ipv4() == v4).map(|address| address.ip());
    found.ok_or_else(|| {
        Error::Refused(vec![format!(
            "interface {name} has no address here, and datagrams wait in a socket that is bound to it"
        )])
    })
}

/// The whole packet, headers and all.
fn packet(from: SocketAddr, to: SocketAddr, protocol: i32, data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len();
    // UDP-Lite has here how much the checksum covers; 0 is all of it (RFC 3828).
    let told = if protocol == libc::IPPROTO_UDPLITE { 0 } else { length as u16 };
    let mut segment = Vec::with_capacity(length);
    for field in [from.port(), to.port(), told, 0] {
        segment.extend(field.to_be_bytes());
    }
    segment.extend(data);
    let (mut pseudo, mut packet) = (Vec::new(), Vec::new());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // The kernel fills in length, identification and checksum.
            packet.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol as u8, 0, 0]);
            packet.extend(from.octets().into_iter().chain(to.octets()));
            pseudo.extend(from.octets().into_iter().chain(to.octets()));
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((length as u16).to_be_bytes());
            packet.extend([protocol as u8, 64]);
            packet.extend(from.octets().into_iter().chain(to.octets()));
            pseudo.extend(from.octets().into_iter().chain(to.octets()));
        }
        _ => {}
    }
    pseudo.extend((length as u32).to_be_bytes());
    pseudo.extend((protocol as u32).to_be_bytes());
    let checksum = checksum(&pseudo, &segment).to_be_bytes();
    segment.splice(6..8, checksum);
    packet.append(&mut segment);
    packet
}

/// RFC 768: never 0, which would say that there is none.
fn checksum(pseudo: &[u8], segment: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    let mut sum: u64 = pseudo.chunks(2).chain(segment.chunks(2)).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}
