//! Which options sockets have: one table for each level of getsockopt(2).
//!
//! What a kernel does not know, or a sort of socket lacks, it says when it is asked for it. Missing are only options that the kernel
//! does not give out (`IPV6_PKTINFO`, the interface index behind `IP_MULTICAST_IF`, `TCP_MD5SIG`), that say how a connection goes,
//! and that are read in another way (memberships, filters).

use migrate_linux::libc;

use super::options::{Form, SocketOption};
use crate::resources::file::SocketView;

/// The tables of what a sort of socket has, in the order in which they are set.
pub fn tables_of(sort: SocketView) -> [&'static [SocketOption]; 4] {
    let (ip, ipv6): (&[SocketOption], &[SocketOption]) = match sort.domain {
        libc::AF_INET => (IP, &[]),
        libc::AF_INET6 => (IP, IPV6),
        _ => (&[], &[]),
    };
    let transport = match (sort.domain, sort.kind, sort.protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP) => TCP,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP) => UDP,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) => UDPLITE,
        (libc::AF_INET, libc::SOCK_RAW, _) => RAW,
        (libc::AF_INET6, libc::SOCK_RAW, _) => RAW6,
        (libc::AF_PACKET, ..) => PACKET,
        (libc::AF_NETLINK, ..) => NETLINK,
        _ => &[],
    };
    [ip, ipv6, transport, ANY]
}

const fn any(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::SOL_SOCKET, name, text)
}

const SNDBUF: (i32, i32) = (libc::SOL_SOCKET, libc::SO_SNDBUF);
const RCVBUF: (i32, i32) = (libc::SOL_SOCKET, libc::SO_RCVBUF);

/// Of every socket (socket(7), include/uapi/asm-generic/socket.h).
const ANY: &[SocketOption] = &[
    any(libc::SO_DEBUG, "SO_DEBUG"),
    any(libc::SO_REUSEADDR, "SO_REUSEADDR"),
    any(libc::SO_REUSEPORT, "SO_REUSEPORT"),
    any(libc::SO_DONTROUTE, "SO_DONTROUTE"),
    any(libc::SO_BROADCAST, "SO_BROADCAST"),
    any(libc::SO_KEEPALIVE, "SO_KEEPALIVE"),
    any(libc::SO_OOBINLINE, "SO_OOBINLINE"),
    any(libc::SO_NO_CHECK, "SO_NO_CHECK"),
    any(libc::SO_LINGER, "SO_LINGER").in_form(Form::Linger),
    any(libc::SO_RCVLOWAT, "SO_RCVLOWAT"),
    any(libc::SO_RCVTIMEO, "SO_RCVTIMEO"),
    any(libc::SO_SNDTIMEO, "SO_SNDTIMEO"),
    any(libc::SO_BINDTODEVICE, "SO_BINDTODEVICE"),
    any(libc::SO_PASSCRED, "SO_PASSCRED"),
    any(libc::SO_PASSSEC, "SO_PASSSEC"),
    any(76, "SO_PASSPIDFD"),
    any(83, "SO_PASSRIGHTS"),
    // Each of the three is either of the old kind or of the new one, and the one set last decides for all.
    any(libc::SO_TIMESTAMPING, "SO_TIMESTAMPING"),
    any(libc::SO_TIMESTAMP, "SO_TIMESTAMP"),
    any(libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
    any(65, "SO_TIMESTAMPING_NEW"),
    any(63, "SO_TIMESTAMP_NEW"),
    any(64, "SO_TIMESTAMPNS_NEW"),
    any(libc::SO_MARK, "SO_MARK"),
    any(libc::SO_PRIORITY, "SO_PRIORITY").changed_by(&[(libc::IPPROTO_IP, libc::IP_TOS)]),
    any(libc::SO_RXQ_OVFL, "SO_RXQ_OVFL"),
    any(libc::SO_WIFI_STATUS, "SO_WIFI_STATUS"),
    any(libc::SO_NOFCS, "SO_NOFCS"),
    any(libc::SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE"),
    any(libc::SO_BUSY_POLL, "SO_BUSY_POLL"),
    any(69, "SO_PREFER_BUSY_POLL"),
    any(libc::SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE"),
    any(libc::SO_INCOMING_CPU, "SO_INCOMING_CPU"),
    any(libc::SO_ZEROCOPY, "SO_ZEROCOPY"),
    any(libc::SO_TXTIME, "SO_TXTIME"),
    any(74, "SO_TXREHASH"),
    any(73, "SO_RESERVE_MEM"),
    any(75, "SO_RCVMARK"),
    any(82, "SO_RCVPRIORITY"),
    any(84, "SO_INQ"),
    any(libc::SO_SNDBUF, "SO_SNDBUF").in_form(Form::Half { beyond_limit: libc::SO_SNDBUFFORCE }).last(),
    any(libc::SO_RCVBUF, "SO_RCVBUF").in_form(Form::Half { beyond_limit: libc::SO_RCVBUFFORCE }).last(),
    // Which of the two the program has set, so that the kernel leaves it alone.
    any(72, "SO_BUF_LOCK").changed_by(&[SNDBUF, RCVBUF]).last(),
    any(libc::SO_PEEK_OFF, "SO_PEEK_OFF").last(),
];

const fn ip(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::IPPROTO_IP, name, text)
}

/// ip(7), include/uapi/linux/in.h. Sockets of IPv6 have them too, for when they speak IPv4.
const IP: &[SocketOption] = &[
    ip(libc::IP_TOS, "IP_TOS"),
    ip(libc::IP_TTL, "IP_TTL"),
    ip(libc::IP_HDRINCL, "IP_HDRINCL"),
    ip(libc::IP_OPTIONS, "IP_OPTIONS"),
    ip(libc::IP_RECVOPTS, "IP_RECVOPTS"),
    ip(libc::IP_RETOPTS, "IP_RETOPTS"),
    ip(libc::IP_PKTINFO, "IP_PKTINFO"),
    ip(libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER"),
    ip(libc::IP_RECVERR, "IP_RECVERR"),
    ip(libc::IP_RECVTTL, "IP_RECVTTL"),
    ip(libc::IP_RECVTOS, "IP_RECVTOS"),
    ip(libc::IP_FREEBIND, "IP_FREEBIND"),
    ip(libc::IP_PASSSEC, "IP_PASSSEC"),
    ip(libc::IP_TRANSPARENT, "IP_TRANSPARENT"),
    ip(libc::IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR"),
    ip(libc::IP_MINTTL, "IP_MINTTL"),
    ip(libc::IP_NODEFRAG, "IP_NODEFRAG"),
    ip(23, "IP_CHECKSUM"),
    ip(24, "IP_BIND_ADDRESS_NO_PORT"),
    ip(25, "IP_RECVFRAGSIZE"),
    ip(26, "IP_RECVERR_RFC4884"),
    ip(libc::IP_MULTICAST_IF, "IP_MULTICAST_IF"),
    ip(libc::IP_MULTICAST_TTL, "IP_MULTICAST_TTL"),
    ip(libc::IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP"),
    ip(libc::IP_MULTICAST_ALL, "IP_MULTICAST_ALL"),
    ip(50, "IP_UNICAST_IF").in_form(Form::Interface { network_order: true }),
    ip(51, "IP_LOCAL_PORT_RANGE"),
];

const fn ipv6(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::IPPROTO_IPV6, name, text)
}

/// ipv6(7), include/uapi/linux/in6.h.
const IPV6: &[SocketOption] = &[
    ipv6(libc::IPV6_V6ONLY, "IPV6_V6ONLY"),
    ipv6(libc::IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS"),
    ipv6(libc::IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF").in_form(Form::Interface { network_order: false }),
    ipv6(libc::IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS"),
    ipv6(libc::IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP"),
    ipv6(29, "IPV6_MULTICAST_ALL"),
    ipv6(libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER"),
    ipv6(libc::IPV6_RECVERR, "IPV6_RECVERR"),
    ipv6(31, "IPV6_RECVERR_RFC4884"),
    ipv6(2, "IPV6_2292PKTINFO"),
    ipv6(3, "IPV6_2292HOPOPTS"),
    ipv6(4, "IPV6_2292DSTOPTS"),
    ipv6(5, "IPV6_2292RTHDR"),
    ipv6(8, "IPV6_2292HOPLIMIT"),
    ipv6(11, "IPV6_FLOWINFO"),
    ipv6(33, "IPV6_FLOWINFO_SEND"),
    ipv6(libc::IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"),
    ipv6(libc::IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"),
    ipv6(libc::IPV6_RECVHOPOPTS, "IPV6_RECVHOPOPTS"),
    ipv6(libc::IPV6_HOPOPTS, "IPV6_HOPOPTS"),
    ipv6(libc::IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS"),
    ipv6(libc::IPV6_RECVRTHDR, "IPV6_RECVRTHDR"),
    ipv6(libc::IPV6_RTHDR, "IPV6_RTHDR"),
    ipv6(libc::IPV6_RECVDSTOPTS, "IPV6_RECVDSTOPTS"),
    ipv6(libc::IPV6_DSTOPTS, "IPV6_DSTOPTS"),
    ipv6(libc::IPV6_RECVPATHMTU, "IPV6_RECVPATHMTU"),
    ipv6(libc::IPV6_DONTFRAG, "IPV6_DONTFRAG"),
    ipv6(libc::IPV6_RECVTCLASS, "IPV6_RECVTCLASS"),
    ipv6(libc::IPV6_TCLASS, "IPV6_TCLASS"),
    ipv6(70, "IPV6_AUTOFLOWLABEL"),
    ipv6(libc::IPV6_ADDR_PREFERENCES, "IPV6_ADDR_PREFERENCES"),
    ipv6(libc::IPV6_MINHOPCOUNT, "IPV6_MINHOPCOUNT"),
    ipv6(libc::IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR"),
    ipv6(libc::IPV6_TRANSPARENT, "IPV6_TRANSPARENT"),
    ipv6(76, "IPV6_UNICAST_IF").in_form(Form::Interface { network_order: true }),
    ipv6(77, "IPV6_RECVFRAGSIZE"),
    ipv6(78, "IPV6_FREEBIND"),
];

const fn tcp(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::IPPROTO_TCP, name, text)
}

/// tcp(7), include/uapi/linux/tcp.h: of sockets that are not connected.
const TCP: &[SocketOption] = &[
    tcp(libc::TCP_CONGESTION, "TCP_CONGESTION"),
    tcp(libc::TCP_NODELAY, "TCP_NODELAY"),
    tcp(libc::TCP_MAXSEG, "TCP_MAXSEG"),
    tcp(libc::TCP_CORK, "TCP_CORK"),
    tcp(libc::TCP_KEEPIDLE, "TCP_KEEPIDLE"),
    tcp(libc::TCP_KEEPINTVL, "TCP_KEEPINTVL"),
    tcp(libc::TCP_KEEPCNT, "TCP_KEEPCNT"),
    tcp(libc::TCP_SYNCNT, "TCP_SYNCNT"),
    tcp(libc::TCP_LINGER2, "TCP_LINGER2"),
    tcp(libc::TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"),
    tcp(libc::TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP"),
    tcp(libc::TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS"),
    tcp(libc::TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"),
    tcp(libc::TCP_FASTOPEN, "TCP_FASTOPEN"),
    tcp(libc::TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY"),
    tcp(libc::TCP_FASTOPEN_CONNECT, "TCP_FASTOPEN_CONNECT"),
    tcp(libc::TCP_FASTOPEN_NO_COOKIE, "TCP_FASTOPEN_NO_COOKIE"),
    tcp(libc::TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT"),
    tcp(libc::TCP_SAVE_SYN, "TCP_SAVE_SYN"),
    tcp(libc::TCP_INQ, "TCP_INQ"),
    tcp(37, "TCP_TX_DELAY"),
    tcp(44, "TCP_RTO_MAX_MS"),
    tcp(45, "TCP_RTO_MIN_US"),
    tcp(46, "TCP_DELACK_MAX_US"),
];

const fn udp(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::IPPROTO_UDP, name, text)
}

/// udp(7), include/uapi/linux/udp.h.
const UDP: &[SocketOption] = &[
    udp(100, "UDP_ENCAP"),
    udp(101, "UDP_NO_CHECK6_TX"),
    udp(102, "UDP_NO_CHECK6_RX"),
    udp(103, "UDP_SEGMENT"),
    udp(104, "UDP_GRO"),
    udp(1, "UDP_CORK"),
];

/// udplite(7).
const UDPLITE: &[SocketOption] = &[
    SocketOption::new(libc::IPPROTO_UDPLITE, 10, "UDPLITE_SEND_CSCOV"),
    SocketOption::new(libc::IPPROTO_UDPLITE, 11, "UDPLITE_RECV_CSCOV"),
    udp(1, "UDP_CORK"),
];

/// raw(7); include/uapi/linux/icmp.h.
const RAW: &[SocketOption] = &[SocketOption::new(libc::SOL_RAW, 1, "ICMP_FILTER")];

/// include/uapi/linux/icmpv6.h, include/uapi/linux/in6.h.
const RAW6: &[SocketOption] = &[
    SocketOption::new(libc::SOL_RAW, 36, "IPV6_HDRINCL"),
    SocketOption::new(libc::SOL_RAW, libc::IPV6_CHECKSUM, "IPV6_CHECKSUM"),
    SocketOption::new(libc::SOL_ICMPV6, 1, "ICMPV6_FILTER"),
];

const fn packet(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::SOL_PACKET, name, text)
}

/// packet(7), include/uapi/linux/if_packet.h.
const PACKET: &[SocketOption] = &[
    packet(libc::PACKET_VERSION, "PACKET_VERSION"),
    packet(7, "PACKET_COPY_THRESH"),
    packet(libc::PACKET_AUXDATA, "PACKET_AUXDATA"),
    packet(libc::PACKET_ORIGDEV, "PACKET_ORIGDEV"),
    packet(libc::PACKET_RESERVE, "PACKET_RESERVE"),
    packet(libc::PACKET_LOSS, "PACKET_LOSS"),
    packet(libc::PACKET_VNET_HDR, "PACKET_VNET_HDR"),
    packet(24, "PACKET_VNET_HDR_SZ"),
    packet(libc::PACKET_TIMESTAMP, "PACKET_TIMESTAMP"),
    packet(libc::PACKET_TX_HAS_OFF, "PACKET_TX_HAS_OFF"),
    packet(libc::PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS"),
    packet(23, "PACKET_IGNORE_OUTGOING"),
];

const fn netlink(name: i32, text: &'static str) -> SocketOption {
    SocketOption::new(libc::SOL_NETLINK, name, text)
}

/// netlink(7), include/uapi/linux/netlink.h.
const NETLINK: &[SocketOption] = &[
    netlink(libc::NETLINK_PKTINFO, "NETLINK_PKTINFO"),
    netlink(libc::NETLINK_BROADCAST_ERROR, "NETLINK_BROADCAST_ERROR"),
    netlink(libc::NETLINK_NO_ENOBUFS, "NETLINK_NO_ENOBUFS"),
    netlink(libc::NETLINK_LISTEN_ALL_NSID, "NETLINK_LISTEN_ALL_NSID"),
    netlink(libc::NETLINK_CAP_ACK, "NETLINK_CAP_ACK"),
    netlink(libc::NETLINK_EXT_ACK, "NETLINK_EXT_ACK"),
    netlink(12, "NETLINK_GET_STRICT_CHK"),
];
