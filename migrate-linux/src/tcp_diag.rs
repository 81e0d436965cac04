//! What the kernel tells of TCP sockets that they do not tell themselves: sock_diag(7), net/ipv4/tcp_diag.c.

use std::io;

use super::sock_diag::{attributes, dump, word};

/// TCP_LISTEN and, since Linux 6.8, TCP_BOUND_INACTIVE of include/net/tcp_states.h, as bits.
const STATES: u32 = 1 << 10 | 1 << 13;

/// INET_DIAG_MD5SIG of include/uapi/linux/inet_diag.h: told to CAP_NET_ADMIN alone.
const MD5SIG: u16 = 18;

/// Bytes of a `struct inet_diag_msg`, and where its inode is.
const MESSAGE: usize = 72;
const INODE: usize = 68;

/// The inodes of the sockets that listen with keys for signed connections (TCP_MD5SIG, RFC 2385).
///
/// # Errors
/// Those of netlink(7); `NotFound` (ENOENT) from a kernel without CONFIG_INET_DIAG.
pub fn listeners_with_keys() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // `struct inet_diag_req_v2`: family, protocol, extensions (INET_DIAG_INFO, without which no keys are told), padding, states, and an
        // ID that matches all.
        let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 1 << 1, 0];
        request.extend(STATES.to_ne_bytes());
        request.extend([0; 48]);
        dump(&request, |message| {
            if attributes(message.get(MESSAGE..).unwrap_or_default()).any(|(kind, _)| kind == MD5SIG) {
                found.push(word(message, INODE)?);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockopt;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    #[test]
    fn a_listener_with_a_key_is_found() {
        let (plain, signed) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        // `struct tcp_md5sig`: address, flags, prefix, length of the key, interface, key.
        let mut key = vec![0; 216];
        key[..8].copy_from_slice(&[libc::AF_INET as u8, 0, 0, 0, 127, 0, 0, 1]);
        key[130] = 6;
        key[136..142].copy_from_slice(b"secret");
        if let Err(e) = sockopt::set(&signed, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &key) {
            println!("SKIPPED: this kernel has no TCP_MD5SIG: {e}");
            return;
        }
        let inode = |socket: &TcpListener| nix::sys::stat::fstat(socket.as_fd()).unwrap().st_ino as u32;
        let found = listeners_with_keys().unwrap();
        assert!(found.contains(&inode(&signed)) && !found.contains(&inode(&plain)), "{found:?}");
    }
}
