//! What sockets are, and options of TCP sockets that carry pages.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::sockopt::{get, get_int};

/// Makes a socket carry pages: `cubic`, and no waiting for more to send. What cannot be set stays as it is.
pub fn tune_for_pages(socket: &impl AsFd) {
    // Only speed depends on them.
    let _ = set_congestion_control(socket, "cubic");
    let _ = set_no_delay(socket, true);
}

/// Has the kernel notice within half a minute that a silent peer is gone (`SO_KEEPALIVE` of socket(7), tcp(7)). What cannot be
/// set stays as it is.
pub fn notice_lost_peer(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::TcpKeepIdle, &10);
    let _ = setsockopt(socket, sockopt::TcpKeepInterval, &5);
    let _ = setsockopt(socket, sockopt::TcpKeepCount, &4);
    let _ = setsockopt(socket, sockopt::KeepAlive, &true);
}

/// Makes a connection fail within about ten seconds when the other host has gone silent: a process may be standing still for it
/// (tcp(7): TCP_USER_TIMEOUT for what was sent, keep-alive for waiting).
///
/// # Errors
/// Those of setsockopt(2).
pub fn notice_silence(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpUserTimeout, &10_000)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &2)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &2)?;
    Ok(setsockopt(socket, sockopt::TcpKeepCount, &4)?)
}

/// Chooses the congestion control by name (`TCP_CONGESTION` of tcp(7)); whether it could be had.
///
/// On a loopback or a fast local link `cubic` moves twice as much as `bbr`, which some hosts have as their
/// default.
///
/// # Errors
/// Those of setsockopt(2), but for a kernel that lacks it or does not let this user have it.
pub fn set_congestion_control(socket: &impl AsFd, name: &str) -> io::Result<bool> {
    match setsockopt(socket, sockopt::TcpCongestion, &name.into()) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT | Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Bytes a second that a connection has lately carried from here (`tcpi_delivery_rate` of `TCP_INFO`, include/uapi/linux/tcp.h):
/// measured on what was under way together, so of a sender that holds itself back it tells about what the path can do. 0: not
/// known yet.
///
/// # Errors
/// Those of getsockopt(2); `Unsupported` on a kernel before Linux 4.9.
pub fn delivery_rate(socket: &impl AsFd) -> io::Result<u64> {
    const AT: usize = 160;
    let mut info = [0u8; 256];
    let length = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    let field = info.get(AT..AT + 8).filter(|_| length >= AT + 8).and_then(|bytes| bytes.try_into().ok());
    field.map(u64::from_ne_bytes).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Family, type and protocol of a socket (SO_DOMAIN, SO_TYPE, SO_PROTOCOL of socket(7)).
///
/// # Errors
/// ENOTSOCK: it is none.
pub fn family_type_protocol(socket: &impl AsFd) -> io::Result<[i32; 3]> {
    let read = |name| get_int(socket, libc::SOL_SOCKET, name);
    Ok([read(libc::SO_DOMAIN)?, read(libc::SO_TYPE)?, read(libc::SO_PROTOCOL)?])
}

/// Sends small messages at once (`TCP_NODELAY` of tcp(7)).
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_no_delay(socket: &impl AsFd, on: bool) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::TcpNoDelay, &on)?)
}

/// Fixes the sizes of the buffers, in bytes (`SO_SNDBUF` and `SO_RCVBUF` of socket(7)), which also ends their
/// growing by themselves. The kernel doubles them, up to net.core.wmem_max and rmem_max.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_buffers(socket: &impl AsFd, send: usize, receive: usize) -> io::Result<()> {
    setsockopt(socket, sockopt::SndBuf, &send)?;
    Ok(setsockopt(socket, sockopt::RcvBuf, &receive)?)
}

/// What was sent from a socket and has not been taken, in bytes of the kernel's memory for a unix socket (`SIOCOUTQ`).
///
/// # Errors
/// Those of ioctl(2).
pub fn bytes_sent(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this ioctl stores one int.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(bytes as usize),
    }
}

/// Where a socket is bound, in the kernel's own form.
///
/// # Errors
/// Those of getsockname(2).
pub fn name_bytes(socket: &impl AsFd) -> io::Result<Vec<u8>> {
    let mut name = vec![0; size_of::<libc::sockaddr_storage>()];
    let mut length = name.len() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes, which `name` has, and says how long the name is.
    match unsafe { libc::getsockname(fd, name.as_mut_ptr().cast(), &raw mut length) } {
        -1 => Err(io::Error::last_os_error()),
        _ => {
            name.truncate(length as usize);
            Ok(name)
        }
    }
}

/// Binds a socket to an address in the kernel's own form (`struct sockaddr_ll` and so on), where no library has a type for it.
///
/// # Errors
/// Those of bind(2).
pub fn bind_bytes(socket: &impl AsFd, address: &[u8]) -> io::Result<()> {
    let length = address.len() as libc::socklen_t;
    // SAFETY: the kernel reads this many bytes at most of the address, and copies it to where it is aligned.
    match unsafe { libc::bind(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), length) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_tells_what_it_carries() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || other.read_to_end(&mut Vec::new()).unwrap());
        stream.write_all(&vec![1; 8 << 20]).unwrap();
        let rate = delivery_rate(&stream).unwrap();
        assert!((1 << 20..1 << 40).contains(&rate), "{rate} bytes a second");
        drop(stream);
        assert_eq!(reader.join().unwrap(), 8 << 20);
        assert!(delivery_rate(&std::os::unix::net::UnixStream::pair().unwrap().0).is_err());
    }

    #[test]
    fn a_socket_says_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP];
        assert_eq!(family_type_protocol(&listener).unwrap(), tcp);
        let pair = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert_eq!(family_type_protocol(&pair.0).unwrap(), [libc::AF_UNIX, libc::SOCK_DGRAM, 0]);
        let error = family_type_protocol(&std::fs::File::open("/dev/null").unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn options_are_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        if set_congestion_control(&stream, "cubic").unwrap() {
            let name = getsockopt(&stream, sockopt::TcpCongestion).unwrap();
            assert!(name.to_string_lossy().starts_with("cubic"), "{name:?}");
        } else {
            println!("SKIPPED TCP_CONGESTION: this kernel has no cubic");
        }
        assert!(!set_congestion_control(&stream, "no-such-thing").unwrap());
        set_no_delay(&stream, true).unwrap();
        assert!(stream.nodelay().unwrap());
        set_buffers(&stream, 100_000, 50_000).unwrap();
        assert_eq!(getsockopt(&stream, sockopt::SndBuf).unwrap(), 200_000);
        assert_eq!(getsockopt(&stream, sockopt::RcvBuf).unwrap(), 100_000);
        let other = std::os::unix::net::UnixStream::pair().unwrap().0;
        assert!(set_no_delay(&other, true).is_err());
    }
}
