//! What the kernel tells of packet sockets that they do not tell themselves: sock_diag(7), net/packet/diag.c.

use std::io;

use super::sock_diag::{array, attributes, dump, word};

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
    // `struct packet_diag_req`, with PACKET_SHOW_MCLIST and PACKET_SHOW_RING_CFG.
    let mut request = vec![libc::AF_PACKET as u8, 0, 0, 0];
    for word in [0, 2 | 4, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    let mut found = Vec::new();
    dump(&request, |message| {
        found.push(parse(message)?);
        Ok(())
    })?;
    Ok(found)
}

/// `struct packet_diag_msg` and its attributes (include/uapi/linux/packet_diag.h).
fn parse(message: &[u8]) -> io::Result<PacketSocket> {
    let mut socket = PacketSocket { inode: word(message, 4)?, ..PacketSocket::default() };
    for (kind, content) in attributes(message.get(16..).ok_or(io::ErrorKind::InvalidData)?) {
        match kind {
            // PACKET_DIAG_MCLIST: of `struct packet_diag_mclist`
            1 => {
                for one in content.chunks_exact(44) {
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
            2 | 3 => socket.ring = true,
            _ => {}
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

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
