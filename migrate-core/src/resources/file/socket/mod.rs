//! Sockets.

pub mod address;
pub mod corked;
mod datagrams;
pub mod memberships;
pub mod netlink;
pub mod options;
pub mod packet;
pub mod raw;
mod tables;
pub mod tcp;
pub mod udp;
pub mod unix;
pub mod unix_calls;
pub mod unix_finish;
pub mod unix_making;
pub mod unix_places;
mod unix_queue;

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use migrate_linux::{libc, sockopt};
use rustix::event::PollFlags;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use super::{HeldFile, SocketView};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;

/// A new one; close-on-exec.
fn fresh(sort: SocketView) -> Result<OwnedFd> {
    let SocketView { domain, kind, protocol } = sort;
    let odd = || Error::Invalid(format!("a socket of domain {domain}, type {kind}, protocol {protocol}"));
    let family = AddressFamily::from_raw(domain.try_into().map_err(|_| odd())?);
    let sort = SocketType::from_raw(kind.try_into().map_err(|_| odd())?);
    let number = NonZeroU32::new(protocol.try_into().map_err(|_| odd())?);
    let made = socket_with(family, sort, SocketFlags::CLOEXEC, number.map(Protocol::from_raw)).map_err(Into::into);
    made.doing(|| format!("make a socket of domain {domain}, type {kind}, protocol {protocol}"))
}

/// What a sort of socket is called.
pub fn name_of(sort: SocketView) -> String {
    let SocketView { domain, kind, protocol } = sort;
    // Of include/linux/socket.h and include/uapi/linux/in.h, where libc lacks them.
    let name = match (domain, kind, protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP) => "TCP socket",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP) => "UDP socket",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) => "UDP-Lite socket",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => "ping socket",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW, _) => "raw socket",
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_SCTP) => "SCTP socket",
        (libc::AF_INET | libc::AF_INET6, _, 262) => "MPTCP socket",
        (libc::AF_INET | libc::AF_INET6, _, 256) | (43, ..) => "SMC socket",
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_DCCP) => "DCCP socket",
        (libc::AF_UNIX, ..) => "unix socket",
        (libc::AF_PACKET, ..) => "packet socket",
        (libc::AF_NETLINK, ..) => "netlink socket",
        (libc::AF_VSOCK, ..) => "vsock socket",
        (libc::AF_ALG, ..) => "AF_ALG socket (the kernel's cryptography)",
        (libc::AF_XDP, ..) => "XDP socket",
        (libc::AF_CAN, ..) => "CAN socket",
        (libc::AF_TIPC, ..) => "TIPC socket",
        (libc::AF_BLUETOOTH, ..) => "Bluetooth socket",
        (libc::AF_RDS, ..) => "RDS socket",
        (libc::AF_KEY, ..) => "PF_KEY socket",
        (41, ..) => "KCM socket",
        (42, ..) => "QIPCRTR socket",
        _ => return format!("socket of domain {domain}, type {kind}, protocol {protocol}"),
    };
    name.into()
}

/// Says of which descriptor a refusal is that cannot know.
fn of_descriptor(number: i32, sort: SocketView, error: Error) -> Error {
    match error {
        Error::Refused(reasons) => {
            let name = name_of(sort);
            Error::Refused(reasons.into_iter().map(|why| format!("fd {number}: a {name}: {why}")).collect())
        }
        other => other,
    }
}

/// What waits on a socket now: something to read, an end, an error.
fn polled(socket: &OwnedFd) -> Result<PollFlags> {
    super::polled(socket, PollFlags::IN | PollFlags::RDHUP).doing(|| "poll a socket".into())
}

/// What preflight says of one that shares its port.
fn group_program(from: &HeldFile) -> Result<Verdict> {
    let shares = sockopt::get_int(&from.duplicate, libc::SOL_SOCKET, libc::SO_REUSEPORT);
    Ok(match shares.doing(|| "read SO_REUSEPORT of a socket".into())? {
        0 => Verdict::Supported,
        _ => Verdict::With(format!(
            "fd {}: it shares its port (SO_REUSEPORT); a program that chooses among those that do, if it has one, the kernel does not give out",
            from.view.number
        )),
    })
}

/// The name of this network namespace's interface with this index.
fn interface_name(index: u32) -> Result<String> {
    let name = any_socket().and_then(|socket| Ok(index_to_name(socket, index)?));
    name.doing(|| format!("find the interface with index {index}"))
}

/// The index of the interface of this name.
fn interface_index(name: &str) -> io::Result<u32> {
    name_to_index(any_socket()?, name).map_err(|e| match e {
        rustix::io::Errno::NODEV => {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name} here"))
        }
        e => e.into(),
    })
}

/// To ask about interfaces through.
fn any_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}
