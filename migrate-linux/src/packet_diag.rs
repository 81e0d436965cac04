//! What the kernel tells of packet sockets that they do not tell themselves: sock_diag(7), net/packet/diag.c.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A group or mode of an interface that a packet socket has joined (packet(7), PACKET_ADD_MEMBERSHIP).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketMembership {
    /// The interface's index.
    pub interface: u32,
    /// How often.
    pub count: u32,
    /// PACKET_MR_MULTICAST and so on.
    pub kind: u16,
    /// The address, where the kind has one.
    pub address: Vec<u8>,
}

/// One packet socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PacketSocket {
    /// Its inode.
    pub inode: u32,
    /// What it has joined.
    pub memberships: Vec<PacketMembership>,
    /// It has a ring that it shares with its process (PACKET_RX_RING, PACKET_TX_RING).
    pub ring: bool,
}

/// All of this network namespace.
///
/// # Errors
/// Those of netlink(7); `NotFound` (ENOENT) from a kernel without CONFIG_PACKET_DIAG.
pub fn sockets() -> io::Result<Vec<PacketSocket>> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut part, MsgFlags::empty())?;
        let mut rest = part.get(..length).unwrap_or_default();
        loop {
            let length = word(rest, 0)? as usize;
            let Some(message) = take_aligned(&mut rest, length) else { break };
            match u16::from_ne_bytes(array(message, 4)?) {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(io::Error::from_raw_os_error((word(message, 16)? as i32).wrapping_neg())),
                _ => found.push(parse(message.get(16..).unwrap_or_default())?),
            }
        }
    }
}

/// Of include/uapi/linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// `struct nlmsghdr` and `struct packet_diag_req`, with PACKET_SHOW_MCLIST and PACKET_SHOW_RING_CFG.
fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(36u32.to_ne_bytes());
    bytes.extend(20u16.to_ne_bytes()); // SOCK_DIAG_BY_FAMILY
    bytes.extend(0x301u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_DUMP
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_PACKET as u8, 0, 0, 0]);
    for word in [0, 2 | 4, u32::MAX, u32::MAX] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// `struct packet_diag_msg` and its attributes (include/uapi/linux/packet_diag.h).
fn parse(message: &[u8]) -> io::Result<PacketSocket> {
    let mut socket = PacketSocket { inode: word(message, 4)?, ..PacketSocket::default() };
    let mut rest = message.get(16..).ok_or(io::ErrorKind::InvalidData)?;
    while rest.len() >= 4 {
        let length = u16::from_ne_bytes(array(rest, 0)?);
        let Some(attribute) = take_aligned(&mut rest, length.into()) else { break };
        match (u16::from_ne_bytes(array(attribute, 2)?), attribute.get(4..).unwrap_or_default()) {
            // PACKET_DIAG_MCLIST: of `struct packet_diag_mclist`
            (1, list) => {
                for one in list.chunks_exact(44) {
                    let length = u16::from_ne_bytes(array(one, 10)?).min(32);
                    socket.memberships.push(PacketMembership {
                        interface: word(one, 0)?,
                        count: word(one, 4)?,
                        kind: u16::from_ne_bytes(array(one, 8)?),
                        address: one.get(12..12 + usize::from(length)).unwrap_or_default().to_vec(),
                    });
                }
            }
            // PACKET_DIAG_RX_RING, PACKET_DIAG_TX_RING
            (2 | 3, _) => socket.ring = true,
            _ => {}
        }
    }
    Ok(socket)
}

/// The next `length` bytes; what follows begins at a multiple of four. None: there are no more.
fn take_aligned<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let taken = rest.get(..length).filter(|_| length >= 4)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(taken)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    if bytes.is_empty() {
        return Ok(0);
    }
    array(bytes, at).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_understood() {
        let mut message = vec![17, 3, 3, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend([48, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 6, 0]);
        message.extend([1, 0, 0x5e, 0, 0, 1]);
        message.extend([0; 26]);
        let joined = PacketMembership { interface: 1, count: 2, kind: 0, address: vec![1, 0, 0x5e, 0, 0, 1] };
        let expected = PacketSocket { inode: 9, memberships: vec![joined], ring: false };
        assert_eq!(parse(&message).unwrap(), expected);
        message.extend([8, 0, 2, 0, 0, 0, 0, 0]);
        assert!(parse(&message).unwrap().ring);
        // Cut short anywhere, it is an error or less, and no panic.
        (0..message.len()).for_each(|n| drop(parse(&message[..n])));
        message[16] = 0;
        assert!(parse(&message).unwrap().memberships.is_empty());
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        use std::os::fd::AsFd;
        let kind = SockType::Raw;
        let Ok(own) = socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, None) else {
            println!("SKIPPED: a packet socket takes CAP_NET_RAW");
            return;
        };
        let inode = nix::sys::stat::fstat(own.as_fd()).unwrap().st_ino as u32;
        match sockets() {
            Ok(all) => assert!(all.contains(&PacketSocket { inode, ..PacketSocket::default() }), "{all:?}"),
            Err(e) => println!("SKIPPED: no packet_diag: {e}"),
        }
    }
}
