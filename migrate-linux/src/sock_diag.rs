//! Asks the kernel about all sockets of a sort in this network namespace: sock_diag(7).

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Of include/uapi/linux/netlink.h and sock_diag.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;

/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;

/// Sends a request and has each answer, without its header, looked at.
pub fn dump(request: &[u8], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    let mut message = ((HEADER + request.len()) as u32).to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(request);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    // A dump comes in parts of at most 32 KiB (net/netlink/af_netlink.c, `netlink_recvmsg`).
    let mut part = vec![0; 64 << 10];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut part, MsgFlags::empty())?;
        let mut rest = part.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let length = word(rest, 0)? as usize;
            let message = take_aligned(&mut rest, length).filter(|message| message.len() >= HEADER);
            let message = message.ok_or(io::ErrorKind::InvalidData)?;
            let body = &message[HEADER..];
            match u16::from_ne_bytes(array(message, 4)?) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(io::Error::from_raw_os_error((word(body, 0)? as i32).wrapping_neg())),
                _ => each(body)?,
            }
        }
    }
}

/// The attributes of an answer (`struct nlattr`): type and content. What is cut short ends them.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(array(rest, 0).ok()?);
        let attribute = take_aligned(&mut rest, length.into())?;
        Some((u16::from_ne_bytes(array(attribute, 2).ok()?), attribute.get(4..)?))
    })
}

/// The next `length` bytes; what follows begins at a multiple of four. None: there are not so many, or no header.
fn take_aligned<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let taken = rest.get(..length).filter(|_| length >= 4)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(taken)
}

/// The bytes at a place.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The 32-bit number at a place.
pub fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}
