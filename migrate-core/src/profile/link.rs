//! How fast memory gets to another host, as far as that can be known without sending any.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use nix::ifaddrs::getifaddrs;
use serde::Serialize;

use crate::plan::{DEFAULT_PORT, Options};

/// What two hosts with a link that is faster than themselves do (`scripts/bench`: 1 GiB idle), bytes a second.
const HOSTS: u64 = 1_400_000_000;

/// What a network carries of its nominal speed.
const CARRIED: f64 = 0.94;

/// What is assumed of the way to another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Bytes of memory a second.
    pub bytes_per_s: u64,
    /// The network interface that leads there, if its speed is known.
    pub interface: Option<String>,
    /// What that was taken from: `bandwidth` (the option), `interface` (its speed) or `hosts` (what two hosts do that nothing holds back).
    pub why: &'static str,
}

/// The way to a host.
pub fn to(host: Option<&str>, options: &Options) -> Link {
    let found = host.and_then(interface_to);
    let speed = found.as_ref().map(|(_, speed)| *speed).filter(|speed| *speed < HOSTS);
    let (bytes_per_s, why) = match (options.bandwidth, speed) {
        (Some(rate), speed) => (rate.min(speed.unwrap_or(HOSTS)), "bandwidth"),
        (None, Some(speed)) => (speed, "interface"),
        (None, None) => (HOSTS, "hosts"),
    };
    Link { bytes_per_s, interface: found.map(|(name, _)| name), why }
}

/// The interface that leads to a host, and what it carries, bytes a second.
fn interface_to(host: &str) -> Option<(String, u64)> {
    let address = (host, DEFAULT_PORT).to_socket_addrs().or_else(|_| host.to_socket_addrs()).ok()?.next()?;
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Sends nothing: it chooses the way.
    socket.connect(address).ok()?;
    let own = socket.local_addr().ok()?.ip();
    let is_own = |address: &nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()))) == Some(own)
    };
    let interface = getifaddrs().ok()?.find(|i| i.address.as_ref().is_some_and(is_own))?.interface_name;
    let megabits: u64 = fs::read_to_string(format!("/sys/class/net/{interface}/speed")).ok()?.trim().parse().ok()?;
    Some((interface, (megabits as f64 * 1e6 / 8.0 * CARRIED) as u64)).filter(|_| megabits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_says_counts() {
        let free = to(None, &Options::default());
        assert_eq!((free.bytes_per_s, free.why), (HOSTS, "hosts"));
        let held = to(None, &Options { bandwidth: Some(1 << 20), ..Options::default() });
        assert_eq!((held.bytes_per_s, held.why), (1 << 20, "bandwidth"));
        // The loopback interface has no speed.
        assert_eq!(to(Some("127.0.0.1"), &Options::default()).why, "hosts");
        assert_eq!(to(Some("no such host"), &Options::default()).why, "hosts");
    }
}
