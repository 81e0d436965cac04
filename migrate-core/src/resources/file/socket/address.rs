//! Addresses and ports of sockets of the internet: read, bound again, and who has one that is wanted.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use bincode::{Decode, Encode};
use migrate_linux::libc;
use nix::sys::socket::{SockaddrStorage, bind, connect, getpeername, getsockname};

use super::options::{FreshOptions, SocketOptions};
use super::{SocketView, fresh, interface_index, interface_name, of_descriptor};
use crate::error::{Doing, Error, Result};
use crate::proc::link::{LinkTarget, parse_link};
use crate::proc::listing::{for_each_fd_of_others, name_of as process_name};
use crate::resources::file::HeldFile;

/// An address and port, in words that hold on any host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The port; what else is in its place in other protocols than TCP and UDP.
    pub port: u16,
    /// The flow of IPv6.
    flow: u32,
    /// The interface of an address that is one only on a link.
    interface: Option<String>,
}

impl Address {
    /// Whether it is none: neither an address nor a port.
    pub fn is_nothing(&self) -> bool {
        self.ip.is_unspecified() && self.port == 0
    }

    /// By what the kernel calls it.
    pub fn of(address: SocketAddr) -> Result<Address> {
        let (flow, scope) = match address {
            SocketAddr::V4(_) => (0, 0),
            SocketAddr::V6(v6) => (v6.flowinfo(), v6.scope_id()),
        };
        let interface = if scope == 0 { None } else { Some(interface_name(scope)?) };
        Ok(Address { ip: address.ip(), port: address.port(), flow, interface })
    }

    /// As the kernel of this host calls it.
    pub fn here(&self) -> io::Result<SocketAddr> {
        let scope = self.interface.as_deref().map_or(Ok(0), interface_index)?;
        Ok(match self.ip {
            IpAddr::V4(ip) => (ip, self.port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, self.flow, scope).into(),
        })
    }

    /// The same address, to be asked for without one.
    fn any(&self) -> Address {
        let ip = match self.ip {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        Address { ip, port: self.port, flow: 0, interface: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.interface.as_ref().map(|name| format!("%{name}")).unwrap_or_default();
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.port),
            IpAddr::V6(ip) => write!(f, "[{ip}{interface}]:{}", self.port),
        }
    }
}

/// None: it is of no internet.
pub fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

/// Where a socket is bound.
pub fn local(socket: &OwnedFd) -> Result<Address> {
    let name: SockaddrStorage =
        getsockname(socket.as_raw_fd()).map_err(Into::into).doing(|| "read where a socket is bound".into())?;
    Address::of(to_std(&name).ok_or_else(|| Error::Invalid("a socket bound to no address".into()))?)
}

/// What a socket is connected to.
pub fn peer(socket: &OwnedFd) -> Result<Option<Address>> {
    match getpeername::<SockaddrStorage>(socket.as_raw_fd()) {
        Ok(name) => to_std(&name).map(Address::of).transpose(),
        Err(nix::errno::Errno::ENOTCONN) => Ok(None),
        Err(e) => Err(Error::io("read what a socket is connected to".into(), e.into())),
    }
}

/// Connects one that needs no answer for it.
pub fn connect_to(socket: &OwnedFd, peer: &Address) -> Result<()> {
    let to = peer.here().doing(|| format!("connect a socket to {peer}"))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
        .map_err(Into::into)
        .doing(|| format!("connect a socket to {peer}"))
}

/// A socket that must have its address: what travels of any, and enough to see beforehand whether it can be had.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Bound {
    sort: (i32, i32, i32),
    /// All that it has been told.
    pub options: SocketOptions,
    /// Where it is bound; of one that is not, nothing.
    pub local: Address,
    /// What it is connected to.
    pub peer: Option<Address>,
}

impl Bound {
    /// Reads it.
    pub fn capture(socket: &OwnedFd, sort: SocketView, fresh: &FreshOptions) -> Result<Bound> {
        Ok(Bound {
            sort: (sort.domain, sort.kind, sort.protocol),
            options: SocketOptions::capture(socket, sort, fresh)?,
            local: local(socket)?,
            peer: peer(socket)?,
        })
    }

    /// Of one of a process, where it is bound.
    pub fn of(from: &HeldFile, fresh: &FreshOptions) -> Result<Option<Bound>> {
        let number = from.view.number;
        let sort = from.view.socket.ok_or_else(|| Error::Invalid(format!("fd {number}: no socket")))?;
        let mut bound = Bound::capture(&from.duplicate, sort, fresh).map_err(|e| of_descriptor(number, sort, e))?;
        if sort.kind == libc::SOCK_RAW {
            bound.local.port = 0;
        }
        Ok((!bound.local.is_nothing()).then_some(bound))
    }

    /// What sort of socket it is.
    pub fn sort(&self) -> SocketView {
        let (domain, kind, protocol) = self.sort;
        SocketView { domain, kind, protocol }
    }

    /// Makes it, with the options that come first, and binds it.
    /// `fixed`: it will not be bound again, whatever [`Bound::connect`] finds.
    pub fn make(&self, fixed: bool) -> Result<OwnedFd> {
        let sort = self.sort();
        let known = matches!(sort.domain, libc::AF_INET | libc::AF_INET6);
        if !known || self.local.ip.is_ipv4() != (sort.domain == libc::AF_INET) {
            return Err(Error::Invalid(format!("a socket of domain {} at {}", sort.domain, self.local)));
        }
        let socket = fresh(sort)?;
        self.options.restore(&socket, sort)?;
        if self.local.is_nothing() {
            return Ok(socket);
        }
        // Connected without having been bound, it got its address by that. If it was bound all the same, only a second connect shows.
        if !fixed && self.peer.is_some() && self.local.port != 0 && self.bind(&socket, &self.local.any()).is_ok() {
            return Ok(socket);
        }
        self.bind(&socket, &self.local).map_err(|e| self.refusal(&e))?;
        Ok(socket)
    }

    /// Connects it, as it was.
    pub fn connect(&self, socket: OwnedFd) -> Result<OwnedFd> {
        let Some(peer) = &self.peer else { return Ok(socket) };
        connect_to(&socket, peer)?;
        if local(&socket)?.ip == self.local.ip {
            return Ok(socket);
        }
        // The way to the peer leads by another address here.
        drop(socket);
        let socket = fresh(self.sort())?;
        self.options.restore(&socket, self.sort())?;
        self.bind(&socket, &self.local).map_err(|e| self.refusal(&e))?;
        connect_to(&socket, peer)?;
        Ok(socket)
    }

    fn bind(&self, socket: &OwnedFd, to: &Address) -> io::Result<()> {
        Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(to.here()?))?)
    }

    fn refusal(&self, error: &io::Error) -> Error {
        let (name, local) = (super::name_of(self.sort()), &self.local);
        Error::Refused(vec![match error.raw_os_error() {
            Some(libc::EADDRINUSE) => format!(
                "{name} {local}: the port is taken here by {}; end that first, or choose another host",
                holder(self.sort(), local).unwrap_or_else(|| "somebody".into())
            ),
            Some(libc::EADDRNOTAVAIL | libc::ENODEV) => format!(
                "{name} {local}: this host does not have the address {}; give it to an interface here first, or have the program bind to any address",
                local.ip
            ),
            _ => format!("{name} {local}: cannot be bound here: {error}"),
        }])
    }

    /// Whether it could be had now: it is tried, and let go again at once.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.make(true).map(drop).map_err(|e| e.to_string())
    }
}

/// Who has the port, in words.
fn holder(sort: SocketView, wanted: &Address) -> Option<String> {
    let overlaps = |ip: IpAddr| ip == wanted.ip || ip.is_unspecified() || wanted.ip.is_unspecified();
    let inodes: Vec<u64> = match sort.protocol {
        libc::IPPROTO_TCP => {
            let all = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
            all.filter(|s| s.local_address.port() == wanted.port && overlaps(s.local_address.ip()))
                .map(|s| s.inode)
                .collect()
        }
        libc::IPPROTO_UDP => {
            let all = [procfs::net::udp(), procfs::net::udp6()].into_iter().flatten().flatten();
            all.filter(|s| s.local_address.port() == wanted.port && overlaps(s.local_address.ip()))
                .map(|s| s.inode)
                .collect()
        }
        _ => Vec::new(),
    };
    let mut found = None;
    let listed = for_each_fd_of_others(&[], |process, entry, link| {
        if found.is_none()
            && let LinkTarget::Socket(inode) = parse_link(link)
            && inodes.contains(&inode)
        {
            found = Some(format!(
                "process {process} ({}), descriptor {}",
                process_name(process.pid),
                entry.file_name().to_string_lossy()
            ));
        }
    });
    match (listed, found) {
        (_, Some(who)) => Some(who),
        _ if inodes.contains(&0) => Some("a connection that is ending (TIME_WAIT)".into()),
        _ => None,
    }
}
