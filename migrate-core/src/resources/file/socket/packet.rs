//! Packet sockets (packet(7)): protocol, interface, options, classic filter, memberships (multicast, promiscuous), fanout group, flags.
//!
//! Refused: rings that are shared with the process (PACKET_RX_RING, PACKET_TX_RING), SOCK_PACKET, fanout by a program. Lost: packets
//! that wait; what passes there is not what passed here.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::packet_diag::{self, PacketSocket};
use migrate_linux::{libc, sockets, sockopt};

use super::options::SocketOptions;
use super::{fresh, interface_index, interface_name, of_descriptor};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{
    FileKind, FileView, HeldFile, NewFiles, Others, SocketView, flags_now, or_instead, set_flags,
};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PacketImage {
    sort: (i32, i32),
    options: SocketOptions,
    /// Big-endian, as in socket(2).
    protocol: u16,
    /// To which it is bound.
    interface: Option<String>,
    memberships: Vec<Membership>,
    /// PACKET_FANOUT, 0 for none.
    fanout: i32,
    flags: i32,
}

/// `struct packet_mreq` with the interface's name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Membership {
    interface: String,
    kind: u16,
    address: Vec<u8>,
    count: u32,
}

/// The kind.
pub enum Packet {}

impl FileKind for Packet {
    const NAME: &'static str = "packet socket";
    const MOVES: &'static str = "protocol, interface (of the same name there), options, classic filter, memberships, fanout group; not packets that wait, nor one with rings";
    type Image = PacketImage;

    fn recognise(view: &FileView) -> bool {
        view.socket.is_some_and(|s| s.domain == libc::AF_PACKET && matches!(s.kind, libc::SOCK_RAW | libc::SOCK_DGRAM))
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        Ok(obstacle(from)?.err().map_or(Verdict::Supported, Verdict::Unsupported))
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<PacketImage> {
        let (number, socket) = (from.view.number, &from.duplicate);
        let sort = from.view.socket.ok_or_else(|| Error::Invalid(format!("fd {number}: no socket")))?;
        let told = obstacle(from)?.map_err(|why| Error::Refused(vec![why]))?;
        let options = SocketOptions::capture(socket, sort, others.fresh).map_err(|e| of_descriptor(number, sort, e))?;
        // `struct sockaddr_ll`: family, protocol, index; how long it is depends on the interface.
        let name = sockets::name_bytes(socket).doing(|| "read what a packet socket is bound to".into())?;
        let (protocol, index) = match name.as_slice() {
            [_, _, p, q, a, b, c, d, ..] => (u16::from_ne_bytes([*p, *q]), u32::from_ne_bytes([*a, *b, *c, *d])),
            _ => {
                return Err(Error::Invalid(format!(
                    "fd {number}: a packet socket with a name of {} bytes",
                    name.len()
                )));
            }
        };
        let named = |index| if index == 0 { Ok(None) } else { interface_name(index).map(Some) };
        let membership = |one: packet_diag::PacketMembership| {
            let (kind, address, count) = (one.kind, one.address, one.count);
            Ok(Membership { interface: interface_name(one.interface)?, kind, address, count })
        };
        Ok(PacketImage {
            sort: (sort.domain, sort.kind),
            options,
            protocol,
            interface: named(index)?,
            memberships: told.memberships.into_iter().map(membership).collect::<Result<_>>()?,
            fanout: fanout(socket)?,
            flags: flags_now(from)?,
        })
    }

    fn create(image: &PacketImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let (domain, kind) = image.sort;
        // Without a protocol it receives nothing before it is bound.
        let sort = SocketView { domain, kind, protocol: 0 };
        if domain != libc::AF_PACKET || image.memberships.iter().any(|one| one.address.len() > 8 || one.count > 1000) {
            return Err(Error::Invalid("a packet socket that cannot be".into()));
        }
        let socket = fresh(sort)?;
        image.options.restore(&socket, sort)?;
        // Before it is bound: nothing is to get past the filter.
        image.options.restore_last(&socket, sort)?;
        for one in &image.memberships {
            let index = interface_index(&one.interface).doing(|| format!("join a group of {}", one.interface))?;
            // `struct packet_mreq`: index, type, length, address.
            let mut request = index.to_ne_bytes().to_vec();
            request.extend(one.kind.to_ne_bytes());
            request.extend((one.address.len() as u16).to_ne_bytes());
            request.extend(&one.address);
            request.resize(16, 0);
            for _ in 0..one.count {
                sockopt::set(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
                    .doing(|| format!("join a group of {}", one.interface))?;
            }
        }
        if image.interface.is_some() || image.protocol != 0 {
            bind_to(&socket, image.protocol, image.interface.as_deref())?;
        }
        if image.fanout != 0 {
            let set = sockopt::set_int(&socket, libc::SOL_PACKET, libc::PACKET_FANOUT, image.fanout);
            set.doing(|| format!("join packet fanout group {}", image.fanout & 0xffff))?;
        }
        set_flags(&socket, image.flags)?;
        Ok(socket)
    }
}

fn bind_to(socket: &OwnedFd, protocol: u16, interface: Option<&str>) -> Result<()> {
    let doing = || format!("bind a packet socket to interface {}", interface.unwrap_or("any"));
    let index = interface.map_or(Ok(0), interface_index).doing(doing)?;
    // `struct sockaddr_ll`: family, protocol, index, and what bind does not read.
    let mut address = libc::AF_PACKET.to_ne_bytes()[..2].to_vec();
    address.extend(protocol.to_ne_bytes());
    address.extend(index.to_ne_bytes());
    address.resize(size_of::<libc::sockaddr_ll>(), 0);
    sockets::bind_bytes(socket, &address).doing(doing)
}

/// Of include/uapi/linux/if_packet.h.
const PACKET_FANOUT_CBPF: i32 = 6;
const PACKET_FANOUT_EBPF: i32 = 7;
const PACKET_FANOUT_FLAG_UNIQUEID: i32 = 0x2000;

/// Its number, type and flags; the number has been found by now, and is not to be found again.
fn fanout(socket: &OwnedFd) -> Result<i32> {
    let fanout = sockopt::get_int(socket, libc::SOL_PACKET, libc::PACKET_FANOUT);
    Ok(fanout.doing(|| "read the fanout group of a packet socket".into())? & !(PACKET_FANOUT_FLAG_UNIQUEID << 16))
}

/// What the kernel tells of it; or why it cannot move.
fn obstacle(from: &HeldFile) -> Result<std::result::Result<PacketSocket, String>> {
    let number = from.view.number;
    let close = or_instead(&[number]);
    let all = match packet_diag::sockets() {
        Ok(all) => all,
        Err(e) => {
            return Ok(Err(format!(
                "fd {number}: a packet socket, of which this kernel does not tell enough (CONFIG_PACKET_DIAG: {e}); {close}"
            )));
        }
    };
    let inode = from.view.stat.st_ino;
    let Some(told) = all.into_iter().find(|one| u64::from(one.inode) == inode) else {
        return Ok(Err(format!(
            "fd {number}: a packet socket of another network namespace, which cannot move; {close}"
        )));
    };
    if told.ring {
        return Ok(Err(format!(
            "fd {number}: a packet socket with a ring that it shares with the program (PACKET_RX_RING, PACKET_TX_RING), which cannot move; {close}"
        )));
    }
    let kind = fanout(&from.duplicate)? >> 16 & 0xff;
    if matches!(kind, PACKET_FANOUT_CBPF | PACKET_FANOUT_EBPF) {
        return Ok(Err(format!(
            "fd {number}: a packet socket of a fanout group with a program, which the kernel does not give out; {close}"
        )));
    }
    Ok(Ok(told))
}
