//! Data that a UDP socket holds back (UDP_CORK of udp(7), MSG_MORE of send(2)) until the program sends the rest: the data, where it goes,
//! from which address, and what was said for this datagram alone: time to live, type of service, flow label, mark, size of segments.
//!
//! Reading: the kernel gives it to nobody but its receiver, so only an eBPF probe tells. It stays in the original, which sends it if the
//! process stays. Putting in: it is sent again, to be held back. A socket that is closed drops what it holds back
//! (`udp_flush_pending_frames`, net/ipv4/udp.c), here as there.
//!
//! The way that the datagram takes is chosen anew, by the routes of the destination. It comes from the same address where the destination
//! has that, else from one that is chosen with the way. Those with options of IP or a time to be sent at stay, and the process with them.
//!
//! Lost: that it is to be time-stamped, its priority where the program has changed the socket's since, and whether IPV6_DONTFRAG was said
//! for it alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::cork_probe::{CorkProbe, Corked};
use migrate_linux::datagram::{Beside, hold_back};
use migrate_linux::{libc, sockets, sockopt};

use super::udp::Udp;
use super::{SocketView, interface_index, interface_name, name_of};
use crate::error::{Doing, Error, Result};
use crate::resources::file::{FileKind, HeldFile};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CorkedImage {
    to: IpAddr,
    port: u16,
    from: IpAddr,
    interface: Option<String>,
    ttl: Option<u8>,
    tos: Option<u8>,
    label: u32,
    mark: Option<u32>,
    segment: Option<u16>,
    data: Vec<u8>,
}

/// Of include/uapi/linux/udp.h and include/uapi/linux/in6.h.
const UDP_CORK: i32 = 1;
const IPV6_FLOWINFO: i32 = 11;

/// Whether a description is a socket that seems to hold back something, or is about to.
pub fn may_hold_back(held: &HeldFile) -> bool {
    let corked = || sockopt::get_int(&held.duplicate, libc::IPPROTO_UDP, UDP_CORK).is_ok_and(|on| on != 0);
    let sent = || sockets::bytes_sent(&held.duplicate).is_ok_and(|bytes| bytes != 0);
    Udp::recognise(&held.view) && (sent() || corked())
}

/// Why what a socket of a process that runs holds back cannot move, as far as can be told.
pub fn obstacle(held: &HeldFile, probe: &CorkProbe) -> Option<String> {
    if !may_hold_back(held) {
        return None;
    }
    // What changes just now is no obstacle.
    let corked = probe.read(&held.duplicate).ok().flatten()?;
    Some(refusal(held, held.view.socket?, unmovable(&corked)?))
}

fn refusal(held: &HeldFile, sort: SocketView, why: &str) -> String {
    format!("fd {}: a {} {why}", held.view.number, name_of(sort))
}

fn unmovable(corked: &Corked) -> Option<&'static str> {
    if corked.has_options {
        return Some(
            "that holds back data (UDP_CORK, MSG_MORE) with options of IP, which cannot be told; let the program send it",
        );
    }
    corked.is_timed.then_some(
        "that holds back data (UDP_CORK, MSG_MORE) with a time to be sent at (SCM_TXTIME), which is one of this host's clocks; let the program send it",
    )
}

/// Reads what a socket of the frozen process holds back. None: nothing.
///
/// # Errors
/// `Refused`, where it cannot move, or nothing tells what it is, or what was sent before is still on its way.
pub fn capture(
    held: &HeldFile,
    sort: SocketView,
    probe: std::result::Result<&CorkProbe, &str>,
) -> Result<Option<CorkedImage>> {
    let (number, socket) = (held.view.number, &held.duplicate);
    let sent = sockets::bytes_sent(socket).doing(|| format!("read what descriptor {number} sends"))?;
    if sent == 0 {
        return Ok(None);
    }
    let refused = |why: &str| Error::Refused(vec![refusal(held, sort, why)]);
    let probe = probe.map_err(|why| {
        refused(&format!(
            "with data that it holds back (UDP_CORK, MSG_MORE) or that is just being sent: which, only an eBPF probe tells, and there is none: {why}; or let the program send it"
        ))
    })?;
    let corked = probe.read(socket).map_err(|why| {
        refused(&format!(
            "with data that it holds back (UDP_CORK, MSG_MORE): {why}; try again, or let the program send it"
        ))
    })?;
    // The kernel counts what it holds back and what is still on its way together.
    let Some(corked) = corked.filter(|corked| corked.memory == sent) else {
        return Err(refused("with data that is just being sent; try again"));
    };
    if let Some(why) = unmovable(&corked) {
        return Err(refused(why));
    }
    CorkedImage::of(corked, socket).map(Some)
}

impl CorkedImage {
    /// What is as the socket has it anyway is left out.
    fn of(corked: Corked, socket: &OwnedFd) -> Result<CorkedImage> {
        let option = |level, name| sockopt::get_int(socket, level, name).unwrap_or(0);
        let (to, port) = corked.to;
        let wanted = match to {
            // Elsewhere than on a link, the routes decide.
            IpAddr::V4(to) => to.is_multicast() || to.is_broadcast() || to.is_link_local(),
            IpAddr::V6(_) => true,
        };
        let interface = Some(corked.interface).filter(|index| wanted && *index != 0);
        let own_tos = if to.is_ipv4() { Some(option(libc::IPPROTO_IP, libc::IP_TOS)) } else { None };
        Ok(CorkedImage {
            to,
            port,
            from: corked.from,
            interface: interface.map(interface_name).transpose()?,
            ttl: corked.ttl,
            tos: corked.tos.filter(|tos| own_tos != Some(i32::from(*tos))),
            label: corked.label,
            mark: Some(corked.mark).filter(|mark| option(libc::SOL_SOCKET, libc::SO_MARK) as u32 != *mark),
            segment: Some(corked.segment).filter(|size| option(libc::SOL_UDP, libc::UDP_SEGMENT) != i32::from(*size)),
            data: corked.data,
        })
    }

    /// Has a socket hold it back that is bound, connected and not yet shut down. Nothing is sent.
    ///
    /// # Errors
    /// `Refused`, where this host has no way there, or not that interface: then nothing is held back.
    pub fn restore(&self, socket: &OwnedFd, sort: SocketView) -> Result<()> {
        let refused = |why: String| {
            Error::Refused(vec![format!(
                "a {} holds back data for {}, which this host cannot have it hold back: {why}; let the program send it, or make it possible here",
                name_of(sort),
                SocketAddr::new(self.to, self.port)
            )])
        };
        let index = self.interface.as_deref().map(interface_index).transpose();
        let index = match (index, self.to) {
            (Ok(index), _) => index.unwrap_or(0),
            // It was chosen, not asked for.
            (Err(_), IpAddr::V4(_)) => 0,
            (Err(why), IpAddr::V6(_)) => return Err(refused(why.to_string())),
        };
        let mut ways = vec![(Some(self.from), index), (None, index)];
        if self.to.is_ipv4() && index != 0 {
            ways.extend([(Some(self.from), 0), (None, 0)]);
        }
        let mut failure = None;
        for (from, index) in ways {
            match hold_back(socket, self.target(index), &self.data, &self.beside(from, index)) {
                Ok(()) => return Ok(()),
                Err(e) => failure = Some(e),
            }
        }
        failure.map_or(Ok(()), |why| Err(refused(why.to_string())))
    }

    fn target(&self, index: u32) -> SocketAddr {
        match self.to {
            IpAddr::V4(to) => (to, self.port).into(),
            IpAddr::V6(to) => SocketAddrV6::new(to, self.port, 0, index).into(),
        }
    }

    /// `from`, and the interface with this index if it is not 0, are asked for.
    fn beside(&self, from: Option<IpAddr>, index: u32) -> Vec<Beside> {
        let number = |level, name, value: u32| (level, name, value.to_ne_bytes().to_vec());
        let from = from.filter(|from| !from.is_unspecified());
        let mut beside = Vec::new();
        if from.is_some() || index != 0 {
            // struct in_pktinfo: interface, source, nothing; struct in6_pktinfo: source, interface.
            beside.push(match (self.to, from) {
                (IpAddr::V4(_), from) => {
                    let from = if let Some(IpAddr::V4(from)) = from { from } else { Ipv4Addr::UNSPECIFIED };
                    let bytes = [index.to_ne_bytes(), from.octets(), [0; 4]].concat();
                    (libc::IPPROTO_IP, libc::IP_PKTINFO, bytes)
                }
                (IpAddr::V6(_), from) => {
                    let from = if let Some(IpAddr::V6(from)) = from { from.octets() } else { [0; 16] };
                    let bytes = [&from[..], &index.to_ne_bytes()].concat();
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, bytes)
                }
            });
        }
        let (level, ttl, tos) = match self.to {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS),
        };
        beside.extend(self.ttl.map(|value| number(level, ttl, value.into())));
        beside.extend(self.tos.map(|value| number(level, tos, value.into())));
        if self.label != 0 {
            beside.push((libc::IPPROTO_IPV6, IPV6_FLOWINFO, self.label.to_be_bytes().to_vec()));
        }
        beside.extend(self.mark.map(|mark| number(libc::SOL_SOCKET, libc::SO_MARK, mark)));
        let segment = self.segment.map(|size| (libc::SOL_UDP, libc::UDP_SEGMENT, size.to_ne_bytes().to_vec()));
        beside.extend(segment);
        beside
    }
}
