//! What a UDP socket holds back (UDP_CORK of udp(7), MSG_MORE of send(2)): a BPF iterator over this process's descriptors
//! (ebpf/cork.bpf.c) reads it, by a duplicate of the socket, and leaves it.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};

use crate::datagram::hold_back;
use crate::error::{Context, Error, Result};
use crate::probe::cannot_be_loaded;
use crate::task_iterator::TaskIterator;

const WHAT: &str = "data that sockets hold back";

/// What a socket holds back, and how it is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corked {
    /// Where to. Of IPv4 also in a socket of IPv6.
    pub to: (IpAddr, u16),
    /// Where from: as the program has said, or as the way there has been chosen.
    pub from: IpAddr,
    /// The index of an interface. IPv4: the one that the way leads by. IPv6: the one that was asked for; 0: none.
    pub interface: u32,
    /// The time to live. None: as the socket has it when it is sent.
    pub ttl: Option<u8>,
    /// The type of service, of IPv6 the traffic class. None: likewise. (Of late the kernel notes the socket's.)
    pub tos: Option<u8>,
    /// The flow label of IPv6. 0: none that was asked for.
    pub label: u32,
    /// The mark (SO_MARK).
    pub mark: u32,
    /// The datagram is to be cut into such of this many bytes (UDP_SEGMENT). 0: it is not.
    pub segment: u16,
    /// It has options of IP, or extension headers.
    pub has_options: bool,
    /// The program has said when it is to be sent (SCM_TXTIME).
    pub is_timed: bool,
    /// So many bytes of the kernel's memory it takes, of those that `SIOCOUTQ` tells of.
    pub memory: usize,
    /// The data.
    pub data: Vec<u8>,
}

/// So much data in a piece.
const SIZE: usize = 16384;
/// The header of UDP, which the kernel counts with the data.
const HEADER: u32 = 8;

/// As the program writes it, before a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Raw {
    constant: u64,
    family: u32,
    length: u32,
    seen: u32,
    memory: u32,
    bits: u32,
    interface: u32,
    tos: i32,
    ttl: i32,
    segment: u32,
    mark: u32,
    label: u32,
    port: u32,
    from: [u8; 16],
    to: [u8; 16],
}

const UNREADABLE: u32 = 1;
const OPTIONS: u32 = 2;
const TIMED: u32 = 4;

/// As the program reads it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Wanted {
    number: u32,
    first: u32,
    constant: u64,
    known: [u8; 16],
    reach: u64,
}

#[cfg(probes)]
// SAFETY: made of integers without gaps, so that every pattern of bits is one of it.
unsafe impl aya::Pod for Wanted {}

/// What the program is told.
#[cfg(probes)]
type Told = aya::maps::Array<aya::maps::MapData, Wanted>;
#[cfg(not(probes))]
type Told = ();

const RECORD: usize = size_of::<Raw>() + SIZE;

impl Raw {
    fn from_bytes(bytes: &[u8; RECORD]) -> Raw {
        // SAFETY: there are more bytes than it has; every pattern of bits is one of it, for it is made of integers without gaps.
        unsafe { bytes.as_ptr().cast::<Raw>().read_unaligned() }
    }

    fn address(&self, bytes: [u8; 16]) -> IpAddr {
        match self.family as i32 {
            libc::AF_INET => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
            _ => Ipv6Addr::from(bytes).into(),
        }
    }

    fn told(&self, data: Vec<u8>) -> Corked {
        Corked {
            to: (self.address(self.to), u16::from_be(self.port as u16)),
            from: self.address(self.from),
            interface: self.interface,
            ttl: u8::try_from(self.ttl).ok(),
            tos: u8::try_from(self.tos).ok(),
            label: u32::from_be(self.label) & 0xf_ffff,
            mark: self.mark,
            segment: self.segment as u16,
            has_options: self.bits & OPTIONS != 0,
            is_timed: self.bits & TIMED != 0,
            memory: self.memory as usize,
            data,
        }
    }
}

/// Reads what sockets hold back of which this process has a duplicate.
pub struct CorkProbe {
    descriptors: TaskIterator,
    told: Mutex<Told>,
    /// Where the kernel has all memory mapped, as ebpf/cork.bpf.c means it.
    constant: u64,
}

impl fmt::Debug for CorkProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CorkProbe").finish_non_exhaustive()
    }
}

impl CorkProbe {
    /// Loads the program. Takes 60 ms, most of it for the kernel's description of itself.
    ///
    /// # Errors
    /// As [`crate::file_probe::FileProbe::load`]; and the loopback interface is down, or it does not tell what this process itself holds
    /// back.
    pub fn load() -> Result<CorkProbe> {
        let mut probe = load().map_err(|why| cannot_be_loaded(WHAT, why))?;
        probe.find_memory().map_err(|why| cannot_be_loaded(WHAT, why))?;
        Ok(probe)
    }

    /// What this socket holds back. None: nothing; or it is none of UDP or UDP-Lite.
    ///
    /// # Errors
    /// It cannot be read: it is in a device's memory; or it changes just now.
    pub fn read(&self, socket: &impl AsFd) -> Result<Option<Corked>> {
        let number = socket.as_fd().as_raw_fd() as u32;
        let mut wanted = Wanted { number, constant: self.constant, ..Wanted::default() };
        let Some((raw, mut data)) = self.piece(&wanted)? else { return Ok(None) };
        let odd = |why: &str| Error::Unsupported(format!("read what a socket holds back: {why}"));
        let length = raw.length.checked_sub(HEADER).ok_or_else(|| odd("it has no length"))? as usize;
        while data.len() < length {
            wanted.first = data.len() as u32;
            match self.piece(&wanted)? {
                Some((again, piece)) if again == raw => data.extend(piece),
                _ => return Err(odd("it changes meanwhile")),
            }
        }
        data.truncate(length);
        if raw.bits & UNREADABLE != 0 {
            return Err(odd("it is where it cannot be read"));
        }
        if raw.seen as usize != length {
            return Err(odd(&format!("there are {} bytes of {length}", raw.seen)));
        }
        Ok(Some(raw.told(data)))
    }

    /// One piece of what a descriptor holds back. None: it is no such, or holds back nothing.
    fn piece(&self, wanted: &Wanted) -> Result<Option<(Raw, Vec<u8>)>> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        tell(&mut told, wanted).map_err(|why| Error::Unsupported(format!("the probe for {WHAT}: {why}")))?;
        let mut bytes = [0; RECORD];
        // The rest of the descriptors is not gone through.
        let count = self.descriptors.begin()?.read(&mut bytes)?;
        drop(told);
        let raw = Raw::from_bytes(&bytes);
        let held = count == RECORD && matches!(raw.family as i32, libc::AF_INET | libc::AF_INET6);
        Ok(held.then(|| (raw, bytes[size_of::<Raw>()..].to_vec())))
    }

    /// Finds where all memory is mapped, and whether what it tells is right, by something that this process holds back itself.
    fn find_memory(&mut self) -> Result<()> {
        let mut known = [0; 16];
        let random = fs::File::open("/dev/urandom").and_then(|mut from| from.read_exact(&mut known));
        random.doing(|| "read /dev/urandom".into())?;
        let doing = || "hold back data for the loopback interface".into();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).doing(doing)?;
        // It goes nowhere else, and never goes.
        let to = socket.local_addr().doing(doing)?;
        // What comes behind the first is in pages.
        hold_back(&socket, to, b"first", &[]).and_then(|()| hold_back(&socket, to, &known, &[])).doing(doing)?;
        let number = socket.as_raw_fd() as u32;
        let reach = reach()?;
        let found = self.piece(&Wanted { number, known, reach, ..Wanted::default() })?;
        self.constant = match found {
            Some((Raw { constant, .. }, _)) if constant != 0 => constant,
            Some(_) => return Err(Error::Unsupported("where memory is mapped is not found".into())),
            None => return Err(Error::Unsupported("it does not tell what is held back".into())),
        };
        match self.read(&socket)? {
            Some(told) if told.to == (to.ip(), to.port()) && told.data == [&b"first"[..], &known].concat() => Ok(()),
            told => Err(Error::Unsupported(format!("it tells something else than is held back: {told:?}"))),
        }
    }
}

/// So many GiB are between two places of this host's memory at the most.
fn reach() -> Result<u64> {
    let read = |path: &str| fs::read_to_string(path).doing(|| format!("read {path}"));
    if is_unaccepted(&read("/proc/meminfo")?) {
        // To read what has not been accepted yet may be the end of this machine (fs/proc/meminfo.c, drivers/firmware/efi/unaccepted_memory.c).
        return Err(Error::Unsupported(
            "not all of this machine's memory is in use yet (Unaccepted in /proc/meminfo)".into(),
        ));
    }
    let end = end_of_memory(&read("/proc/iomem")?).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
    let end = end.doing(|| "find where memory ends, by /proc/iomem".into())?;
    Ok((end >> 30) + 1)
}

/// Whether some of the memory of a confidential virtual machine is still not its own.
fn is_unaccepted(meminfo: &str) -> bool {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Unaccepted:"));
    line.is_some_and(|size| size.split_whitespace().next() != Some("0"))
}

/// `100000000-4bfffffff : System RAM`: the last byte of the last of these. None: it is not told.
fn end_of_memory(iomem: &str) -> Option<u64> {
    let end = |line: &str| {
        let (range, what) = line.split_once(" : ")?;
        let (_, end) = range.split_once('-').filter(|_| what.starts_with("System RAM"))?;
        u64::from_str_radix(end, 16).ok()
    };
    iomem.lines().filter_map(end).max().filter(|end| *end != 0)
}

#[cfg(probes)]
fn tell(told: &mut Told, wanted: &Wanted) -> std::result::Result<(), aya::maps::MapError> {
    told.set(0, wanted, 0)
}

#[cfg(not(probes))]
fn tell(_: &mut Told, _: &Wanted) -> std::result::Result<(), String> {
    Ok(())
}

#[cfg(probes)]
fn load() -> std::result::Result<CorkProbe, Box<dyn std::error::Error>> {
    static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cork.bpf.o"));
    let kernel = aya::Btf::from_sys_fs()?;
    let mut object = aya::EbpfLoader::new().btf(Some(&kernel)).load(OBJECT)?;
    let program = crate::probe::program(&mut object, "read_corked", "task_file", &kernel)?;
    let told = object.take_map("wanted").ok_or("its map is not in the object")?.try_into()?;
    let descriptors = TaskIterator::of_process(program.as_fd(), std::process::id() as i32)?;
    Ok(CorkProbe { descriptors, told: Mutex::new(told), constant: 0 })
}

#[cfg(not(probes))]
fn load() -> std::result::Result<CorkProbe, Box<dyn std::error::Error>> {
    Err(crate::probe::BUILT_WITHOUT.into())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{sockets, sockopt};

    fn probe() -> Option<CorkProbe> {
        CorkProbe::load().inspect_err(|why| println!("SKIPPED probe for {WHAT}: {why}")).ok()
    }

    fn some_bytes(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn it_tells_what_is_held_back_and_leaves_it() {
        let Some(probe) = probe() else { return };
        for (address, size, at_once) in [
            ("127.0.0.1:0", 1, 1),
            ("127.0.0.1:0", 65_507, 65_507),
            ("127.0.0.1:0", 60_001, 1357),
            ("[::1]:0", 40_000, 16_384),
            ("[::1]:0", 5000, 3),
        ] {
            let Ok(here) = UdpSocket::bind(address) else { continue };
            let socket = UdpSocket::bind(address).unwrap();
            let to = here.local_addr().unwrap();
            assert_eq!(probe.read(&socket).unwrap(), None);
            let data = some_bytes(size);
            for part in data.chunks(at_once) {
                hold_back(&socket, to, part, &[]).unwrap();
            }
            for _ in 0..2 {
                let told = probe.read(&socket.try_clone().unwrap()).unwrap().unwrap();
                assert!(told.data == data, "{address}, {size} bytes, {at_once} at once");
                assert_eq!((told.to, told.from), ((to.ip(), to.port()), to.ip()));
                assert_eq!(told.memory, sockets::bytes_sent(&socket).unwrap());
                assert!((told.mark, told.segment, told.has_options, told.is_timed) == (0, 0, false, false));
            }
            socket.send_to(b"", to).unwrap();
            assert_eq!(probe.read(&socket).unwrap(), None);
            let mut got = vec![0; 1 << 16];
            assert_eq!(here.recv(&mut got).unwrap(), size);
            assert!(got[..size] == data);
        }
    }

    /// With a loopback interface of this thread's own, on which a packet is small.
    #[test]
    fn it_tells_what_is_in_many_packets() {
        let in_small_packets = || {
            // SAFETY: takes a number alone, and is about this thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return println!("SKIPPED small packets: {}", io::Error::last_os_error());
            }
            let ip = std::process::Command::new("ip").args(["link", "set", "lo", "mtu", "1280", "up"]).status();
            if !ip.as_ref().is_ok_and(|status| status.success()) {
                return println!("SKIPPED small packets: ip: {ip:?}");
            }
            let Some(probe) = probe() else { return };
            for (address, at_once) in [
                ("127.0.0.1:0", 60_000),
                ("127.0.0.1:0", 999),
                ("127.0.0.1:0", 7),
                ("[::1]:0", 60_000),
                ("[::1]:0", 1231),
            ] {
                let Ok(socket) = UdpSocket::bind(address) else { continue };
                let data = some_bytes(60_000);
                for part in data.chunks(at_once) {
                    hold_back(&socket, socket.local_addr().unwrap(), part, &[]).unwrap();
                }
                let told = probe.read(&socket).unwrap().unwrap();
                assert!(told.data == data, "{address}, {at_once} at once");
                assert_eq!(told.memory, sockets::bytes_sent(&socket).unwrap());
            }
        };
        std::thread::scope(|scope| scope.spawn(in_small_packets).join().unwrap());
    }

    #[test]
    fn it_reads_the_programs_own_pages() {
        let Some(probe) = probe() else { return };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        sockopt::set_int(&socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1).unwrap();
        let data = some_bytes(50_000);
        for part in data.chunks(20_000) {
            let flags = libc::MSG_MORE | libc::MSG_ZEROCOPY;
            // SAFETY: the bytes live until the socket is closed and all of them have been dropped.
            let sent = unsafe { libc::send(socket.as_raw_fd(), part.as_ptr().cast(), part.len(), flags) };
            assert_eq!(sent, part.len() as isize, "{}", io::Error::last_os_error());
        }
        let told = probe.read(&socket).unwrap().unwrap();
        assert!(told.data == data);
        assert_eq!(told.memory, sockets::bytes_sent(&socket).unwrap());
        drop(socket);
    }

    #[test]
    fn nothing_at_all_is_held_back_too() {
        let Some(probe) = probe() else { return };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        hold_back(&socket, socket.local_addr().unwrap(), b"", &[]).unwrap();
        assert_eq!(probe.read(&socket).unwrap().unwrap().data, []);
        assert_eq!(probe.read(&fs::File::open("/proc/self/stat").unwrap()).unwrap(), None);
        assert_eq!(probe.read(&std::os::unix::net::UnixDatagram::unbound().unwrap()).unwrap(), None);
    }

    #[test]
    fn it_tells_how_it_is_to_go() {
        let Some(probe) = probe() else { return };
        let number = |level, kind, value: i32| (level, kind, value.to_ne_bytes().to_vec());
        let told = |address: &str, to: SocketAddr, beside: &[_]| {
            let socket = UdpSocket::bind(address).ok()?;
            hold_back(&socket, to, b"data", beside).unwrap_or_else(|e| panic!("{beside:?}: {e}"));
            probe.read(&socket).unwrap()
        };
        let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let plain = told("0.0.0.0:0", to, &[]).unwrap();
        assert_eq!((plain.ttl, plain.tos.unwrap_or(0), plain.to, plain.from), (None, 0, (to.ip(), 9), to.ip()));
        let beside = [number(libc::IPPROTO_IP, libc::IP_TTL, 9), number(libc::IPPROTO_IP, libc::IP_TOS, 0x10)];
        let other = told("0.0.0.0:0", to, &beside).unwrap();
        assert_eq!((other.ttl, other.tos), (Some(9), Some(0x10)));
        let segment = (libc::SOL_UDP, libc::UDP_SEGMENT, 1000u16.to_ne_bytes().to_vec());
        assert_eq!(told("0.0.0.0:0", to, &[segment]).unwrap().segment, 1000);
        // A record route.
        let options = (libc::IPPROTO_IP, libc::IP_RETOPTS, vec![7, 7, 4, 0, 0, 0, 0, 0]);
        assert!(told("0.0.0.0:0", to, &[options]).unwrap().has_options);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if sockopt::set_int(&socket, libc::SOL_SOCKET, libc::SO_MARK, 77).is_ok() {
            hold_back(&socket, to, b"data", &[]).unwrap();
            assert_eq!(probe.read(&socket).unwrap().unwrap().mark, 77);
        }
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:9".parse().unwrap();
        if let Some(mapped) = told("[::]:0", mapped, &[]) {
            assert_eq!(mapped.to, (to.ip(), 9));
        }
        let to: SocketAddr = "[::1]:9".parse().unwrap();
        let beside = [
            number(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, 5),
            number(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0x20),
            (libc::IPPROTO_IPV6, 11, 0x1_2345u32.to_be_bytes().to_vec()),
        ];
        if let Some(six) = told("[::]:0", to, &beside) {
            assert_eq!((six.ttl, six.tos, six.label, six.to), (Some(5), Some(0x20), 0x1_2345, (to.ip(), 9)));
        }
    }

    #[test]
    fn memory_is_read_of() {
        let iomem = "00001000-0009fbff : System RAM\n100000000-4bfffffff : System RAM\n  200000000-2010fffff : Kernel code\n\
            4000000000-40000fffff : 0000:00:04.0\n";
        assert_eq!(end_of_memory(iomem), Some(0x4_bfff_ffff));
        assert_eq!(end_of_memory("00000000-00000000 : System RAM\n"), None);
        assert_eq!(end_of_memory("x-y : System RAM\n - \n"), None);
        assert!(!is_unaccepted("MemTotal: 1 kB\n") && !is_unaccepted("Unaccepted:   0 kB\n"));
        assert!(is_unaccepted("MemFree: 0 kB\nUnaccepted:   4096 kB\n"));
    }
}
