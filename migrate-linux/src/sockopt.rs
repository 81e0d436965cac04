//! Options of any socket as numbers and bytes: getsockopt(2), setsockopt(2), and the classic filters of socket(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The longest filter that there is, in instructions (`BPF_MAXINSNS`, include/uapi/linux/bpf_common.h).
const FILTER_LIMIT: usize = 4096;

/// An instruction of a classic filter, `struct sock_filter` of include/uapi/linux/filter.h, as eight bytes.
pub type FilterStep = [u8; 8];

/// The filter that a socket has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// None.
    None,
    /// Classic BPF, with its instructions.
    Classic(Vec<FilterStep>),
    /// An eBPF program; the kernel does not tell which (net/core/filter.c, `sk_get_filter`).
    Extended,
}

/// Reads an option into `value`, as much of it as there is room for; how many bytes that were.
///
/// # Errors
/// Those of getsockopt(2): `ENOPROTOOPT` or `EOPNOTSUPP` where there is no such option; `EINVAL` also for one that would
/// have the kernel follow an address.
pub fn get(socket: &impl AsFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    if holds_addresses(level, name) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut length = value.len() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes at most `length` bytes of `value`, and follows no address in them.
    let result = unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Some say how long the whole is.
    Ok(value.len().min(length as usize))
}

/// Reads an option that is a number; a shorter one is taken as a byte.
///
/// # Errors
/// As [`get`].
pub fn get_int(socket: &impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = [0; 4];
    get(socket, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// Sets an option to these bytes.
///
/// # Errors
/// Those of setsockopt(2); `EINVAL` also for one that would have the kernel follow an address.
pub fn set(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    if holds_addresses(level, name) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads at most this many bytes of `value`, and follows no address in them.
    let result = unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), value.len() as libc::socklen_t) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option that is a number.
///
/// # Errors
/// As [`set`].
pub fn set_int(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value.to_ne_bytes())
}

/// Whether an option's value holds addresses of memory: those are no matter of bytes.
fn holds_addresses(level: i32, name: i32) -> bool {
    match level {
        libc::SOL_SOCKET => matches!(name, libc::SO_ATTACH_FILTER | libc::SO_ATTACH_REUSEPORT_CBPF),
        // Tables of netfilter and of ipvs (IPT_BASE_CTL, ARPT_BASE_CTL, EBT_BASE_CTL, IP_VS_BASE_CTL).
        libc::IPPROTO_IP => matches!(name, 64..=191 | 1024..),
        // IP6T_BASE_CTL shares its hundred with options of ipv6(7).
        libc::IPPROTO_IPV6 => matches!(name, 64 | 65 | 68 | 69),
        libc::IPPROTO_TCP => name == libc::TCP_ZEROCOPY_RECEIVE || name == libc::TCP_REPAIR_OPTIONS,
        // PACKET_FANOUT_DATA
        libc::SOL_PACKET => name == 22,
        // XDP_UMEM_REG; the options of AF_RDS
        libc::SOL_XDP | libc::SOL_RDS => true,
        _ => false,
    }
}

/// The filter of a socket (`SO_ATTACH_FILTER`, `SO_ATTACH_BPF`).
///
/// # Errors
/// Those of getsockopt(2).
pub fn filter(socket: &impl AsFd) -> io::Result<Filter> {
    match get_filter(socket, &mut []) {
        Ok(0) => Ok(Filter::None),
        Ok(length) => {
            let mut steps = vec![[0; 8]; length.min(FILTER_LIMIT)];
            let length = get_filter(socket, &mut steps)?;
            steps.truncate(length);
            Ok(Filter::Classic(steps))
        }
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => Ok(Filter::Extended),
        Err(e) => Err(e),
    }
}

/// How many instructions the filter has. This option counts its length in them (net/core/filter.c, `sk_get_filter`).
fn get_filter(socket: &impl AsFd, steps: &mut [FilterStep]) -> io::Result<usize> {
    let mut length = steps.len() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` instructions, eight bytes each, which `steps` has room for; any bytes are valid.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, steps.as_mut_ptr().cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(length as usize) }
}

/// Gives a socket a classic filter.
///
/// # Errors
/// Those of setsockopt(2): `EINVAL` for one that is no valid program, `EPERM` where a filter is locked in.
pub fn attach_filter(socket: &impl AsFd, steps: &[FilterStep]) -> io::Result<()> {
    if steps.len() > FILTER_LIMIT {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // The kernel copies it in any alignment, but the type says four.
    let step = |[a, b, jt, jf, k @ ..]: &FilterStep| libc::sock_filter {
        code: u16::from_ne_bytes([*a, *b]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes(*k),
    };
    let mut program: Vec<libc::sock_filter> = steps.iter().map(step).collect();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `program` names `len` instructions which live until the call is over, and which the kernel only reads.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes away the filter of a socket.
///
/// # Errors
/// Those of setsockopt(2): `ENOENT` where there is none, `EPERM` where it is locked in.
pub fn detach_filter(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn numbers_and_bytes() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_int(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 1).unwrap();
        assert_eq!(get_int(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST).unwrap(), 1);
        let mut value = [0xff; 16];
        assert_eq!(get(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &mut value).unwrap(), 8);
        assert_eq!(value[..8], [0; 8]);
        // Never more than there is room for.
        assert_eq!(get(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &mut value[..3]).unwrap(), 3);
        set(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo").unwrap();
        assert_eq!(get(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut value).unwrap(), 3);
        assert_eq!(&value[..3], b"lo\0");
        let unknown = get_int(&socket, libc::SOL_SOCKET, 9999).unwrap_err();
        assert_eq!(unknown.raw_os_error(), Some(libc::ENOPROTOOPT));
    }

    #[test]
    fn addresses_are_not_given_away() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (level, name) in
            [(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), (libc::IPPROTO_IP, 64), (libc::IPPROTO_IPV6, 64)]
        {
            assert_eq!(set(&socket, level, name, &[0; 16]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert_eq!(get(&socket, level, name, &mut [0; 16]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn filters() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(filter(&socket).unwrap(), Filter::None);
        // Load the length; at most 12 bytes pass. BPF_LD|BPF_W|BPF_LEN, BPF_JMP|BPF_JGT|BPF_K, BPF_RET|BPF_K
        let steps = [
            [0x80, 0, 0, 0, 0, 0, 0, 0],
            [0x25, 0, 0, 1, 12, 0, 0, 0],
            [6, 0, 0, 0, 0, 0, 0, 0],
            [6, 0, 0, 0, 255, 255, 0, 0],
        ];
        attach_filter(&socket, &steps).unwrap();
        assert_eq!(filter(&socket).unwrap(), Filter::Classic(steps.to_vec()));
        let address = socket.local_addr().unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The filter sees the 8 bytes of the header too.
        other.send_to(b"too long", address).unwrap();
        other.send_to(b"fits", address).unwrap();
        let mut got = [0; 16];
        assert_eq!(socket.recv(&mut got).unwrap(), 4);
        detach_filter(&socket).unwrap();
        assert_eq!(filter(&socket).unwrap(), Filter::None);
        assert_eq!(attach_filter(&socket, &[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(attach_filter(&socket, &[[0xff; 8]]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(
            attach_filter(&socket, &vec![[6, 0, 0, 0, 0, 0, 0, 0]; 5000]).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
