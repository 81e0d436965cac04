//! Sending one datagram, or the beginning of one, with what sendmsg(2) takes beside it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use crate::control::push;

/// What is said beside a datagram: level, kind and value (ip(7), ipv6(7), udp(7)).
pub type Beside = (i32, i32, Vec<u8>);

/// Has a socket hold back data that is to go to an address (`MSG_MORE` of send(2)), without waiting.
///
/// # Errors
/// Those of sendmsg(2): then nothing is held back.
pub fn hold_back(socket: &impl AsFd, to: SocketAddr, data: &[u8], beside: &[Beside]) -> io::Result<()> {
    let mut control = Vec::new();
    for (level, kind, value) in beside {
        push(&mut control, *level, *kind, value);
    }
    let to = SockaddrStorage::from(to);
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: a msghdr of zeroes is one that says nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !control.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len();
    }
    loop {
        let flags = libc::MSG_MORE | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: every buffer that `message` names lives until after the call, is as long as it says, and is only read.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
        match usize::try_from(sent) {
            Ok(sent) if sent == data.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn data_is_held_back_until_the_next_is_sent_and_dropped_with_the_socket() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_nonblocking(true).unwrap();
        let address = here.local_addr().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ttl = (libc::IPPROTO_IP, libc::IP_TTL, 7i32.to_ne_bytes().to_vec());
        hold_back(&socket, address, b"one ", &[ttl]).unwrap();
        let mut got = [0; 16];
        assert_eq!(here.recv(&mut got).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        socket.send_to(b"two", address).unwrap();
        here.set_nonblocking(false).unwrap();
        assert_eq!(here.recv(&mut got).unwrap(), 7);
        assert_eq!(&got[..7], b"one two");
        hold_back(&socket, address, b"never", &[]).unwrap();
        drop(socket);
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"last", address).unwrap();
        assert_eq!(here.recv(&mut got).unwrap(), 4);
        // Nobody takes a time to live of 0; what failed has left nothing.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let none = (libc::IPPROTO_IP, libc::IP_TTL, 0i32.to_ne_bytes().to_vec());
        assert!(hold_back(&socket, address, b"x", &[none]).is_err());
        socket.send_to(b"y", address).unwrap();
        assert_eq!((here.recv(&mut got).unwrap(), got[0]), (1, b'y'));
    }
}
