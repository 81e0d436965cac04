//! Messages of unix sockets, with all that travels beside the bytes: read without taking them, and sent again (unix(7)).

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::control::push;
use crate::fdpass::MAX_FDS;

/// Who sent a message, as the receiver sees it (`struct ucred` of unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// 0: nobody that can be seen from here.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A message, or what a stream gives in one go.
#[derive(Debug)]
pub struct Peeked {
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// It has more bytes than there was room for.
    pub cut: bool,
    /// Duplicates of the descriptors that are in flight with it.
    pub descriptors: Vec<OwnedFd>,
    /// Its sender; only a socket with SO_PASSCRED tells.
    pub credentials: Option<Credentials>,
    /// The address that it came from, as in [`crate::unix_diag::UnixSocket::name`].
    pub from: Vec<u8>,
}

/// Room for what travels beside a message: descriptors, credentials, a pidfd, and a security label.
const CONTROL_ROOM: usize = space(MAX_FDS * 4) + space(size_of::<libc::ucred>()) + space(4) + space(4096);
/// `SCM_PIDFD` and `SCM_SECURITY` of include/linux/socket.h.
const SCM_PIDFD: i32 = 4;

const fn space(length: usize) -> usize {
    // SAFETY: CMSG_SPACE computes with its argument and nothing else.
    unsafe { libc::CMSG_SPACE(length as u32) as usize }
}

/// Reads the next message without taking it, at the socket's peek offset if it has one, which goes on behind it. Ok(None): there is
/// none. A length of 0 is a message of no bytes, or of a connected socket also the end.
///
/// # Errors
/// Those of recvmsg(2) but EAGAIN; `InvalidData` when something beside the message did not fit.
pub fn peek(socket: &impl AsFd, into: &mut [u8]) -> io::Result<Option<Peeked>> {
    let mut name = [0u8; size_of::<libc::sockaddr_un>() + 1];
    let mut control = vec![0u64; CONTROL_ROOM.div_ceil(8)];
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a msghdr of zeroes is one that says nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = name.len() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len() * 8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: every buffer that `message` names lives until after the call and is as long as it says; any bytes are valid in them.
        let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
        match usize::try_from(length) {
            Ok(length) => break length,
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                e => return Err(e),
            },
        }
    };
    let (descriptors, credentials) = beside(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more travels beside a message than there can be"));
    }
    let from = match name.get(offset_of!(libc::sockaddr_un, sun_path)..message.msg_namelen as usize) {
        Some([0, rest @ ..]) if !rest.is_empty() => [&[0], rest].concat(),
        Some(path) => path.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
        None => Vec::new(),
    };
    let cut = message.msg_flags & libc::MSG_TRUNC != 0;
    Ok(Some(Peeked { length, cut, descriptors, credentials, from }))
}

/// Takes the descriptors and credentials out of a message that has been received.
fn beside(message: &libc::msghdr) -> (Vec<OwnedFd>, Option<Credentials>) {
    let (mut descriptors, mut credentials) = (Vec::new(), None);
    // SAFETY: recvmsg(2) has filled the control buffer, and says in `message` how much of it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the CMSG macros give only headers that lie whole in the control buffer, aligned to eight bytes as it is.
        let (level, kind, length) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len - libc::CMSG_LEN(0) as usize) };
        // SAFETY: the data follows its header.
        let data = unsafe { libc::CMSG_DATA(header) };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD) => {
                for i in 0..length / 4 {
                    // SAFETY: `length` bytes of descriptor numbers are there.
                    let number = unsafe { data.cast::<i32>().add(i).read_unaligned() };
                    if number < 0 {
                        continue;
                    }
                    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
                    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                    // The kernel makes the pidfd of the sender for each receiver anew: it is closed here.
                    if kind == libc::SCM_RIGHTS {
                        descriptors.push(descriptor);
                    }
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                // SAFETY: a whole ucred is there; it is three numbers.
                let libc::ucred { pid, uid, gid } = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                credentials = Some(Credentials { pid, uid, gid });
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    (descriptors, credentials)
}

/// Sends a message to `to` (of the form of [`Peeked::from`]), or where the socket is connected to, without waiting. How many of its
/// bytes went: all of them but on a stream.
///
/// # Errors
/// Those of sendmsg(2); `InvalidInput` for too many descriptors, or too long a name.
pub fn send(
    socket: &impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    credentials: Option<Credentials>,
    to: Option<&[u8]>,
) -> io::Result<usize> {
    if descriptors.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let numbers: Vec<u8> = descriptors.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes()).collect();
    let mut control = Vec::new();
    if !numbers.is_empty() {
        push(&mut control, libc::SOL_SOCKET, libc::SCM_RIGHTS, &numbers);
    }
    if let Some(Credentials { pid, uid, gid }) = credentials {
        let bytes = [pid.to_ne_bytes(), uid.to_ne_bytes(), gid.to_ne_bytes()].concat();
        push(&mut control, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &bytes);
    }
    let address = to.map(address).transpose()?;
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeroes is one that says nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some((address, length)) = &address {
        message.msg_name = (&raw const *address).cast_mut().cast();
        message.msg_namelen = *length;
    }
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !control.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len();
    }
    loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: every buffer that `message` names lives until after the call, is as long as it says, and is only read.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}

/// An address as the kernel takes it: a path, or a zero byte and an abstract name. Its length counts the path's last zero too.
///
/// # Errors
/// `InvalidInput` for one that is empty or too long.
pub fn address(name: &[u8]) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let mut path = [0 as libc::c_char; 108];
    // A path of 108 bytes has no zero behind it.
    let length = if name.first() == Some(&0) { name.len() } else { (name.len() + 1).min(path.len()) };
    if name.is_empty() || name.len() > path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name that a unix socket can have"));
    }
    path.iter_mut().zip(name).for_each(|(to, from)| *to = *from as libc::c_char);
    let address = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: path };
    Ok((address, (offset_of!(libc::sockaddr_un, sun_path) + length) as libc::socklen_t))
}

/// The same as bytes, for a call that another process makes.
///
/// # Errors
/// As [`address`].
pub fn address_bytes(name: &[u8]) -> io::Result<Vec<u8>> {
    let (_, length) = address(name)?;
    let mut bytes = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes().to_vec();
    bytes.extend(name);
    bytes.resize(length as usize, 0);
    Ok(bytes)
}

/// Binds a socket to a name (bind(2)); a path makes a file.
///
/// # Errors
/// Those of bind(2), and of [`address`].
pub fn bind(socket: &impl AsFd, name: &[u8]) -> io::Result<()> {
    let (address, length) = address(name)?;
    // SAFETY: the kernel reads `length` bytes of the address, which has as many.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Connects a socket (connect(2)), without waiting if it is such a one.
///
/// # Errors
/// Those of connect(2), and of [`address`].
pub fn connect(socket: &impl AsFd, name: &[u8]) -> io::Result<()> {
    let (address, length) = address(name)?;
    // SAFETY: the kernel reads `length` bytes of the address, which has as many.
    let result = unsafe { libc::connect(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The name that a socket is bound to (getsockname(2)), as in [`crate::unix_diag::UnixSocket::name`].
///
/// # Errors
/// Those of getsockname(2).
pub fn name(socket: &impl AsFd) -> io::Result<Vec<u8>> {
    asked(socket, libc::getsockname)
}

/// The name of what it is connected to (getpeername(2)).
///
/// # Errors
/// Those of getpeername(2): ENOTCONN.
pub fn name_of_peer(socket: &impl AsFd) -> io::Result<Vec<u8>> {
    asked(socket, libc::getpeername)
}

type Asking = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn asked(socket: &impl AsFd, asking: Asking) -> io::Result<Vec<u8>> {
    let mut name = [0u8; size_of::<libc::sockaddr_un>() + 1];
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which `name` has, and says how many the whole is.
    let result = unsafe { asking(socket.as_fd().as_raw_fd(), name.as_mut_ptr().cast(), &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match name.get(offset_of!(libc::sockaddr_un, sun_path)..length as usize) {
        Some([0, rest @ ..]) if !rest.is_empty() => [&[0], rest].concat(),
        Some(path) => path.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
        None => Vec::new(),
    })
}

/// The file that a socket is bound to, opened with O_PATH; None where it is bound to none. `SIOCUNIXFILE` of
/// include/uapi/linux/un.h; needs CAP_NET_ADMIN.
///
/// # Errors
/// Those of ioctl(2) but for ENOENT, which says that there is no file.
pub fn bound_file(socket: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
    // SAFETY: this ioctl takes no argument.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCUNIXFILE as _, 0) } {
        -1 => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            e => Err(e),
        },
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        number => Ok(Some(unsafe { OwnedFd::from_raw_fd(number) })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
    use std::fs::File;

    fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn all_that_travels_is_seen_and_left() {
        for kind in [SockType::Stream, SockType::Datagram, SockType::SeqPacket] {
            let (one, other) = pair(kind);
            setsockopt(&other, sockopt::PassCred, &true).unwrap();
            let file = File::open("/dev/null").unwrap();
            let own = Credentials { pid: std::process::id() as i32, uid: 0, gid: 0 };
            if !nix::unistd::getuid().is_root() {
                return println!("SKIPPED credentials: not root");
            }
            let theirs = Credentials { uid: 7, gid: 8, ..own };
            assert_eq!(send(&one, b"hello", &[file.as_fd(), one.as_fd()], Some(theirs), None).unwrap(), 5);
            for _ in 0..2 {
                let mut bytes = [0; 16];
                let peeked = peek(&other, &mut bytes).unwrap().unwrap();
                assert_eq!((peeked.length, &bytes[..5], peeked.cut), (5, &b"hello"[..], false));
                assert_eq!(peeked.credentials, Some(theirs));
                assert_eq!(peeked.descriptors.len(), 2);
                let number = peeked.descriptors[0].as_raw_fd();
                let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
                assert_eq!(link, std::path::Path::new("/dev/null"));
            }
            let cut = peek(&other, &mut [0; 2]).unwrap().unwrap();
            assert_eq!((cut.length, cut.cut), (2, kind != SockType::Stream));
            assert!(peek(&one, &mut [0; 2]).unwrap().is_none());
        }
    }

    #[test]
    fn names_and_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let path = path.as_os_str().as_encoded_bytes();
        let abstract_name = format!("\0migrate names {}", std::process::id());
        let make =
            || nix::sys::socket::socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let (by_path, by_name, unnamed) = (make(), make(), make());
        bind(&by_path, path).unwrap();
        bind(&by_name, abstract_name.as_bytes()).unwrap();
        assert_eq!(name(&by_path).unwrap(), path);
        assert_eq!(name(&by_name).unwrap(), abstract_name.as_bytes());
        assert!(name(&unnamed).unwrap().is_empty());
        assert_eq!(name_of_peer(&unnamed).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));

        connect(&unnamed, path).unwrap();
        assert_eq!(name_of_peer(&unnamed).unwrap(), path);
        send(&by_path, b"", &[], None, Some(abstract_name.as_bytes())).unwrap();
        let peeked = peek(&by_name, &mut [0; 2]).unwrap().unwrap();
        assert_eq!((peeked.length, peeked.from.as_slice()), (0, path));
        send(&by_name, b"x", &[], None, Some(path)).unwrap();
        assert_eq!(peek(&by_path, &mut [0; 2]).unwrap().unwrap().from, abstract_name.as_bytes());

        match bound_file(&by_path) {
            Ok(file) => {
                let number = file.unwrap();
                let link = std::fs::read_link(format!("/proc/self/fd/{}", number.as_raw_fd())).unwrap();
                assert_eq!(link.as_os_str().as_encoded_bytes(), path);
                assert!(bound_file(&unnamed).unwrap().is_none());
            }
            Err(why) => println!("SKIPPED SIOCUNIXFILE: {why}"),
        }
    }

    #[test]
    fn names_that_cannot_be() {
        assert!(address(b"").is_err() && address(&[b'x'; 109]).is_err());
        let header = offset_of!(libc::sockaddr_un, sun_path);
        assert_eq!(address(b"/x").unwrap().1 as usize, header + 3);
        assert_eq!(address(b"\0x").unwrap().1 as usize, header + 2);
        assert_eq!(address(&[b'x'; 108]).unwrap().1 as usize, header + 108);
    }
}
