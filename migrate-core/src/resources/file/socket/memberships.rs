//! Multicast groups that a socket has joined: group, interface, and which senders it takes or refuses (ip(7), ipv6(7)).
//!
//! No call lists a socket's groups. Those of the host are in /proc/net/igmp and igmp6, and of each the socket can be asked whether it
//! has joined it, and with which filter (MCAST_MSFILTER, RFC 3678). Anycast addresses of a socket (IPV6_JOIN_ANYCAST) show nowhere.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use bincode::{Decode, Encode};
use migrate_linux::{libc, sockopt};

use super::{interface_index, interface_name};
use crate::error::{Doing, Error, Result};

/// One that a socket has joined.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Membership {
    group: IpAddr,
    interface: String,
    /// The senders are the only ones that it takes; else those that it refuses.
    only: bool,
    senders: Vec<IpAddr>,
}

/// The groups of this host, read when they are first wanted.
#[derive(Debug, Default)]
pub struct Groups(OnceLock<Vec<(u32, IpAddr)>>);

/// Of include/uapi/linux/in.h.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_MSFILTER: i32 = 48;
const MCAST_INCLUDE: u32 = 1;
const MCAST_EXCLUDE: u32 = 0;

/// Bytes of a `struct sockaddr_storage`, and of what is before the senders in a `struct group_filter`.
const STORAGE: usize = 128;
const FILTER_HEAD: usize = 8 + STORAGE + 8;

/// More than a kernel allows by itself (net.ipv4.igmp_max_msf, net.ipv6.mld_max_msf).
const SENDERS: usize = 256;

impl Groups {
    fn list(&self) -> Result<&[(u32, IpAddr)]> {
        if let Some(known) = self.0.get() {
            return Ok(known);
        }
        let read = |path: &str| match fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.doing(|| format!("read {path}")),
        };
        let mut found = parse_igmp(&read("/proc/net/igmp")?);
        found.extend(parse_igmp6(&read("/proc/net/igmp6")?));
        Ok(self.0.get_or_init(|| found))
    }

    /// Those that this socket has joined.
    pub fn of(&self, socket: &OwnedFd, v6: bool) -> Result<Vec<Membership>> {
        let mut found = Vec::new();
        for (index, group) in self.list()? {
            if (group.is_ipv4() || v6)
                && let Some((only, senders)) =
                    ask(socket, *index, *group).doing(|| format!("read whether a socket has joined {group}"))?
            {
                found.push(Membership { group: *group, interface: interface_name(*index)?, only, senders });
            }
        }
        Ok(found)
    }
}

fn level_of(group: IpAddr) -> i32 {
    if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}

/// None: it has not joined it.
fn ask(socket: &OwnedFd, index: u32, group: IpAddr) -> io::Result<Option<(bool, Vec<IpAddr>)>> {
    let mut filter = group_filter(index, group, MCAST_EXCLUDE, &[]);
    filter[FILTER_HEAD - 4..].copy_from_slice(&(SENDERS as u32).to_ne_bytes());
    filter.resize(FILTER_HEAD + SENDERS * STORAGE, 0);
    match sockopt::get(socket, level_of(group), MCAST_MSFILTER, &mut filter) {
        Ok(_) => {}
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EADDRNOTAVAIL | libc::EINVAL | libc::ENODEV | libc::ENOPROTOOPT)
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    let word = |at: usize| filter.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let (mode, count) = (word(8 + STORAGE), word(FILTER_HEAD - 4) as usize);
    if count > SENDERS {
        return Err(io::Error::other(format!("it names {count} senders")));
    }
    let storages = filter.get(FILTER_HEAD..).unwrap_or_default().chunks_exact(STORAGE).take(count);
    Ok(Some((mode == MCAST_INCLUDE, storages.filter_map(address_in).collect())))
}

impl Membership {
    /// Joins it.
    pub fn restore(&self, socket: &OwnedFd) -> Result<()> {
        let Membership { group, interface, only, senders } = self;
        let doing = || format!("join {group} on {interface}");
        let index = interface_index(interface).doing(doing)?;
        if !group.is_multicast() || senders.len() > SENDERS || senders.iter().any(|s| s.is_ipv4() != group.is_ipv4()) {
            return Err(Error::Invalid(format!("a socket that has joined {group}")));
        }
        let mut request = index.to_ne_bytes().to_vec();
        request.extend([0; 4]);
        request.extend(storage(*group));
        sockopt::set(socket, level_of(*group), MCAST_JOIN_GROUP, &request).doing(doing)?;
        if *only || !senders.is_empty() {
            let mode = if *only { MCAST_INCLUDE } else { MCAST_EXCLUDE };
            let filter = group_filter(index, *group, mode, senders);
            sockopt::set(socket, level_of(*group), MCAST_MSFILTER, &filter)
                .doing(|| format!("choose the senders of {group} on {interface}"))?;
        }
        Ok(())
    }
}

/// `struct group_filter` of include/uapi/linux/in.h.
fn group_filter(index: u32, group: IpAddr, mode: u32, senders: &[IpAddr]) -> Vec<u8> {
    let mut bytes = index.to_ne_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(storage(group));
    bytes.extend(mode.to_ne_bytes());
    bytes.extend((senders.len() as u32).to_ne_bytes());
    senders.iter().for_each(|sender| bytes.extend(storage(*sender)));
    bytes
}

/// `struct sockaddr_storage` with this address.
fn storage(ip: IpAddr) -> [u8; STORAGE] {
    let mut bytes = [0; STORAGE];
    match ip {
        IpAddr::V4(ip) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[8..24].copy_from_slice(&ip.octets());
        }
    }
    bytes
}

fn address_in(storage: &[u8]) -> Option<IpAddr> {
    let family = u16::from_ne_bytes(storage.get(..2)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => Some(<[u8; 4]>::try_from(storage.get(4..8)?).ok()?.into()),
        libc::AF_INET6 => Some(<[u8; 16]>::try_from(storage.get(8..24)?).ok()?.into()),
        _ => None,
    }
}

/// Lines of an interface (`2\teth0 : 1 V3`), each followed by those of its groups (`\t\t010000E0 1 0:00000000 0`), the group as the
/// number that it is in memory (net/ipv4/igmp.c). The one that every interface is in is left out while nobody else has joined it.
fn parse_igmp(text: &str) -> Vec<(u32, IpAddr)> {
    let mut found = Vec::new();
    let mut index = None;
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !line.starts_with("\t\t") {
            index = first.parse().ok();
            continue;
        }
        let group = u32::from_str_radix(first, 16).ok().map(|n| Ipv4Addr::from(n.to_ne_bytes()));
        let users: u32 = words.next().and_then(|w| w.parse().ok()).unwrap_or(u32::MAX);
        if let (Some(index), Some(group)) = (index, group)
            && (users > 1 || group != Ipv4Addr::new(224, 0, 0, 1))
        {
            found.push((index, group.into()));
        }
    }
    found
}

/// `2    eth0   ff020000000000000000000000000001     1 0000000C 0` (net/ipv6/mcast.c). Likewise.
fn parse_igmp6(text: &str) -> Vec<(u32, IpAddr)> {
    let line = |line: &str| -> Option<(u32, IpAddr)> {
        let mut words = line.split_whitespace();
        let (index, _name, group, users) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let group = Ipv6Addr::from(u128::from_str_radix(group, 16).ok()?);
        let of_every_interface = matches!(group.segments(), [0xff01 | 0xff02, 0, 0, 0, 0, 0, 0, 1]);
        let joined = users != "1" || !of_every_interface;
        joined.then_some((index.parse().ok()?, group.into()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    #[test]
    fn groups_of_the_host_are_read() {
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            3\tv0        :     2      V3\n\t\t\t\tFB0000E0     1 0:00000000\t\t0\n\t\t\t\t010000E0     2 0:00000000\t\t0\n";
        let expected: [(u32, IpAddr); 2] = [(3, [224, 0, 0, 251].into()), (3, [224, 0, 0, 1].into())];
        assert_eq!(parse_igmp(igmp), expected);
        let igmp6 = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
            2    eth0            ff0200000000000000000000000000fb     1 00000004 0\nnonsense\n";
        assert_eq!(parse_igmp6(igmp6), [(2, "ff02::fb".parse().unwrap())]);
        assert!(parse_igmp("").is_empty() && parse_igmp("a\n\t\tb\n\t\t\n").is_empty());
    }

    #[test]
    fn what_a_socket_has_joined_it_joins_again() {
        let old = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let of = |socket: &OwnedFd| Groups::default().of(socket, false).unwrap();
        assert_eq!(of(&old), []);
        let joined = |group: [u8; 4], only, senders: &[[u8; 4]]| Membership {
            group: group.into(),
            interface: "lo".into(),
            only,
            senders: senders.iter().map(|s| (*s).into()).collect(),
        };
        let wanted = [
            joined([239, 1, 2, 3], false, &[]),
            joined([239, 1, 2, 4], true, &[[10, 0, 0, 1], [10, 0, 0, 2]]),
            joined([239, 1, 2, 5], false, &[[10, 0, 0, 3]]),
        ];
        if let Err(e) = wanted[0].restore(&old) {
            println!("SKIPPED: no multicast here: {e}");
            return;
        }
        wanted[1..].iter().for_each(|one| one.restore(&old).unwrap());
        let mut found = of(&old);
        found.sort_by_key(|one| one.group);
        assert_eq!(found, wanted);
        let new = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        found.iter().for_each(|one| one.restore(&new).unwrap());
        let mut again = of(&new);
        again.sort_by_key(|one| one.group);
        assert_eq!(again, wanted);
    }

    #[test]
    fn a_peers_nonsense_is_refused() {
        let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let one = |group: IpAddr, interface: &str| Membership {
            group,
            interface: interface.into(),
            only: false,
            senders: vec![],
        };
        assert!(one([10, 0, 0, 1].into(), "lo").restore(&socket).is_err());
        let why = one([239, 0, 0, 1].into(), "no-such0").restore(&socket).unwrap_err().to_string();
        assert!(why.contains("join 239.0.0.1 on no-such0") && why.contains("there is no interface"), "{why}");
    }
}
