//! What the kernel tells of all unix sockets of this network namespace at once: sock_diag(7), net/unix/diag.c.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::TCP_LISTEN;
use netlink_packet_sock_diag::unix::nlas::{Nla, UnixDiagName};
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// One unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnixSocket {
    /// Its inode. 0: it has none, because nobody has accepted it yet, or its owner has closed it.
    pub inode: u32,
    /// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
    pub kind: i32,
    /// It waits for connections.
    pub listening: bool,
    /// To what it is bound: a path, or a zero byte and an abstract name. Empty: to nothing.
    pub name: Vec<u8>,
    /// The inode of what it is connected to. Some(0): to one that has none. None: to nothing.
    pub peer: Option<u32>,
    /// Of a listening one: the inodes of those that wait to be accepted, the first one first; 0 for one that has been closed since.
    pub pending: Vec<u32>,
    /// Bytes that wait to be received; of a listening one, how many wait to be accepted.
    pub waiting: u32,
    /// What its own messages that nobody has received weigh, in bytes of the kernel's memory; of a listening one, the backlog.
    pub sent: u32,
    /// 1: it receives no more; 2: it sends no more; 3: neither.
    pub shutdown: u8,
}

/// All of them.
///
/// # Errors
/// Those of netlink(7); `NotFound` (ENOENT) from a kernel without CONFIG_UNIX_DIAG; `InvalidData` for an answer that cannot be.
pub fn sockets() -> io::Result<Vec<UnixSocket>> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut found = Vec::new();
    // A dump comes in parts of at most 32 KiB (net/netlink/af_netlink.c, `netlink_recvmsg`).
    let mut part = vec![0; 64 << 10];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut part, MsgFlags::empty())?;
        let mut rest = part.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let (message, behind) = first_message(rest)?;
            rest = behind;
            // One whose name the library does not take is a stranger's, or is missed by whoever looks for it.
            let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(message) else { continue };
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(response)) => found.push(told(*response)),
                _ => {}
            }
        }
    }
}

fn request() -> Vec<u8> {
    let all_states = StateFlags::from_bits_retain(u32::MAX);
    let show = ShowFlags::NAME | ShowFlags::PEER | ShowFlags::ICONS | ShowFlags::RQLEN;
    let request = UnixRequest { state_flags: all_states, inode: 0, show_flags: show, cookie: [0xff; 8] };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::UnixRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Splits after the first message: its length is in its first four bytes, and the next one is aligned to four.
fn first_message(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "an answer of sock_diag is cut short");
    let length = bytes.first_chunk().map(|word| u32::from_ne_bytes(*word) as usize).ok_or_else(invalid)?;
    let message = bytes.get(..length).filter(|_| length >= 16).ok_or_else(invalid)?;
    Ok((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn told(response: UnixResponse) -> UnixSocket {
    let header = response.header;
    let mut socket = UnixSocket {
        inode: header.inode,
        kind: header.kind.into(),
        listening: header.state == TCP_LISTEN,
        ..UnixSocket::default()
    };
    for attribute in response.nlas {
        match attribute {
            Nla::Name(UnixDiagName::Pathname(path)) => socket.name = path.as_bytes().to_vec(),
            Nla::Name(UnixDiagName::Abstract(name)) => socket.name = [&[0], name.as_slice()].concat(),
            Nla::Peer(inode) => socket.peer = Some(inode),
            Nla::PendingConnections(inodes) => socket.pending = inodes,
            Nla::ReceiveQueueLength(waiting, sent) => (socket.waiting, socket.sent) = (waiting, sent),
            Nla::Shutdown(how) => socket.shutdown = how,
            _ => {}
        }
    }
    socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

    fn inode(socket: &impl AsRawFd) -> u32 {
        std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino() as u32
    }

    fn of(socket: &impl AsRawFd) -> UnixSocket {
        let inode = inode(socket);
        sockets().unwrap().into_iter().find(|socket| socket.inode == inode).unwrap()
    }

    #[test]
    fn a_pair_tells_its_peer_and_what_is_under_way() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"hello").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        let (here, there) = (of(&one), of(&other));
        assert_eq!((here.peer, there.peer), (Some(inode(&other)), Some(inode(&one))));
        assert_eq!((there.waiting, here.shutdown, there.shutdown), (5, 2, 1));
        assert!(here.sent > 5, "{here:?}");
        assert_eq!((here.kind, here.listening, here.name), (libc::SOCK_STREAM, false, Vec::new()));
        drop(one);
        assert_eq!((of(&other).peer, of(&other).shutdown), (Some(0), 3));
    }

    #[test]
    fn a_listener_tells_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let clients = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
        let told = of(&listener);
        assert!(told.listening);
        assert_eq!(told.name, path.as_os_str().as_bytes());
        assert_eq!(told.pending, clients.each_ref().map(inode));
        assert_eq!(of(&clients[0]).peer, Some(0));
        drop(clients);
        assert_eq!(of(&listener).pending, [0, 0]);
    }

    #[test]
    fn many_and_abstract_names() {
        let name = format!("migrate test {}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        // More than one part.
        let pairs: Vec<_> = (0..500).map(|_| UnixStream::pair().unwrap()).collect();
        assert_eq!(of(&socket).name, [b"\0", name.as_bytes()].concat());
        assert_eq!(of(&socket).peer, None);
        let all = sockets().unwrap();
        let known = |socket: &UnixStream| all.iter().any(|told| told.inode == inode(socket));
        assert!(pairs.iter().all(|(one, other)| known(one) && known(other)));
    }

    #[test]
    fn answers_that_are_cut_short() {
        for bytes in [&[1][..], &[15, 0, 0, 0, 0], &[16, 0, 0, 0], &[0xff; 20]] {
            assert!(first_message(bytes).is_err());
        }
        assert!(first_message(&[&[16, 0, 0, 0][..], &[0; 12]].concat()).unwrap().1.is_empty());
    }
}
