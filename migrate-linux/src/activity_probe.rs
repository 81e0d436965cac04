//! What a process does while it is watched: system calls, files that it opens, peers that it talks to. Counted by BPF programs at the
//! begin and the end of system calls (ebpf/activity.bpf.c), without touching the process; while they are there every system call of
//! the host takes a tenth of a microsecond longer, and those of the process one.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::probe::cannot_be_loaded;

/// One kind of system call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Its number.
    pub number: u32,
    /// How many ended.
    pub count: u64,
    /// How many of them with an error.
    pub failed: u64,
    /// How long threads were in such calls, those that have not ended too; nanoseconds.
    pub ns: u64,
    /// The longest one that ended, nanoseconds.
    pub longest: u64,
    /// Threads that are in one now.
    pub inside: u64,
}

/// A path that was opened, as the program gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it is relative to: a descriptor, or AT_FDCWD (-100).
    pub directory: i32,
    /// The path; cut off after 255 bytes.
    pub path: Vec<u8>,
    /// How often.
    pub count: u64,
    /// How often in vain.
    pub failed: u64,
    /// O_* of all that were not.
    pub flags: u32,
}

/// Who was at the other end of a socket that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// AF_*.
    pub family: u16,
    /// SOCK_*.
    pub kind: u16,
    /// IPPROTO_*.
    pub protocol: u16,
    /// Of an internet socket.
    pub local: Option<IpAddr>,
    /// 0: one that the kernel chose.
    pub local_port: u16,
    /// Of an internet socket.
    pub remote: Option<IpAddr>,
    /// 0: one that the kernel chose.
    pub remote_port: u16,
    /// The name that either end of a unix socket has, as in `sun_path`.
    pub name: Vec<u8>,
    /// The process at the other end of a unix socket; 0: not known.
    pub pid: u32,
    /// System calls.
    pub calls: u64,
    /// Bytes.
    pub received: u64,
    /// Bytes.
    pub sent: u64,
    /// Connections made.
    pub connected: u64,
    /// Connections taken.
    pub accepted: u64,
}

/// What has been seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// By number.
    pub calls: Vec<Calls>,
    /// In no order.
    pub opened: Vec<Opened>,
    /// In no order.
    pub peers: Vec<Peer>,
    /// Child processes that were made.
    pub children: u64,
    /// Mappings of huge pages (MAP_HUGETLB) that were made.
    pub huge_pages: u64,
    /// What there was no room for: calls, paths, uses of sockets.
    pub lost: [u64; 3],
}

/// The programs, accepted by the kernel.
#[derive(Debug)]
pub struct ActivityProbe {
    #[cfg(probes)]
    object: aya::Ebpf,
}

/// A process that is being watched.
#[derive(Debug)]
pub struct Watched {
    #[cfg(probes)]
    object: aya::Ebpf,
    #[cfg(probes)]
    threads: crate::task_iterator::TaskIterator,
}

#[cfg(not(probes))]
impl ActivityProbe {
    /// Cannot be had.
    pub fn load() -> Result<ActivityProbe> {
        Err(unsupported(crate::probe::BUILT_WITHOUT))
    }

    /// Cannot be had.
    pub fn watch(self, _pid: i32) -> Result<Watched> {
        ActivityProbe::load().map(|_| Watched {})
    }
}

#[cfg(not(probes))]
impl Watched {
    /// Cannot be had.
    pub fn seen(&mut self) -> Result<Activity> {
        ActivityProbe::load().map(|_| Activity::default())
    }
}

fn unsupported(why: impl std::fmt::Display) -> Error {
    // What the verifier says of a program that it does not like fills pages.
    let why = why.to_string();
    let why = why.split(" Verifier output").next().unwrap_or_default();
    cannot_be_loaded("system calls", why)
}

#[cfg(probes)]
mod probes {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::fd::AsFd;

    use aya::maps::{Array, HashMap};
    use aya::programs::{BtfTracePoint, Iter};
    use aya::{Btf, Ebpf, EbpfLoader, Pod, include_bytes_aligned};

    use super::*;
    use crate::probe;
    use crate::task_iterator::TaskIterator;

    type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

    // As ebpf/activity.bpf.c writes them.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct BegunCall {
        at: u64,
        number: u64,
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct CallRecord {
        count: u64,
        failed: u64,
        ns: u64,
        longest: u64,
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct PathKey {
        directory: i32,
        path: [u8; 256],
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct OpenedRecord {
        count: u64,
        failed: u64,
        flags: u32,
        _pad: u32,
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct PeerKey {
        family: u16,
        kind: u16,
        protocol: u16,
        local_port: u16,
        remote_port: u16,
        _pad: u16,
        pid: u32,
        local: [u8; 16],
        remote: [u8; 16],
        name: [u8; 108],
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct TalkRecord {
        calls: u64,
        received: u64,
        sent: u64,
        connected: u64,
        accepted: u64,
    }

    // SAFETY: made of integers without gaps, so that every pattern of bits is one of it.
    unsafe impl Pod for BegunCall {}
    // SAFETY: the same.
    unsafe impl Pod for CallRecord {}
    // SAFETY: the same.
    unsafe impl Pod for PathKey {}
    // SAFETY: the same.
    unsafe impl Pod for OpenedRecord {}
    // SAFETY: the same.
    unsafe impl Pod for PeerKey {}
    // SAFETY: the same.
    unsafe impl Pod for TalkRecord {}

    /// Places of `counts`.
    const CHILDREN: u32 = 3;
    const HUGE_PAGES: u32 = 4;
    const NOW: u32 = 5;

    impl ActivityProbe {
        /// Loads them. Takes a tenth of a second.
        ///
        /// # Errors
        /// Built without the probes; the kernel is older than 6.1, has no BTF (CONFIG_DEBUG_INFO_BTF), or does not permit it (CAP_BPF
        /// and CAP_PERFMON).
        pub fn load() -> Result<ActivityProbe> {
            Ok(ActivityProbe { object: load().map_err(unsupported)? })
        }

        /// Watches a process from now on.
        pub fn watch(self, pid: i32) -> Result<Watched> {
            let mut object = self.object;
            let attach = |object: &mut Ebpf| -> Outcome<TaskIterator> {
                for name in ["call_begins", "call_ends"] {
                    let program = object.program_mut(name).ok_or("it is not in the object")?;
                    let program: &mut BtfTracePoint = program.try_into()?;
                    program.attach()?;
                }
                let program = object.program("look").ok_or("it is not in the object")?;
                let program: &Iter = program.try_into()?;
                Ok(TaskIterator::of_process(program.fd()?.as_fd(), pid)?)
            };
            let threads = attach(&mut object).map_err(unsupported)?;
            let watched = Watched { object, threads };
            watched.look()?;
            Ok(watched)
        }
    }

    fn load() -> Outcome<Ebpf> {
        static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/activity.bpf.o"));
        let kernel = Btf::from_sys_fs()?;
        let mut object = EbpfLoader::new().btf(Some(&kernel)).load(OBJECT)?;
        probe::program(&mut object, "look", "task", &kernel)?;
        for (name, tracepoint) in [("call_begins", "sys_enter"), ("call_ends", "sys_exit")] {
            let program = object.program_mut(name).ok_or("it is not in the object")?;
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(tracepoint, &kernel)?;
        }
        Ok(object)
    }

    impl Watched {
        /// Tells the programs which process it is, and what time it is.
        fn look(&self) -> Result<()> {
            let mut times = [0; 4096];
            let mut reading = self.threads.begin()?;
            while reading.read(&mut times)? > 0 {}
            Ok(())
        }

        /// What has been seen so far, of a process that may have ended.
        pub fn seen(&mut self) -> Result<Activity> {
            self.look()?;
            self.read().map_err(|why| Error::Unsupported(format!("what the probe has seen cannot be read: {why}")))
        }

        fn read(&self) -> Outcome<Activity> {
            let map = |name: &str| self.object.map(name).ok_or_else(|| format!("no map {name}"));
            let counts: Array<_, u64> = map("counts")?.try_into()?;
            let count = |what: u32| counts.get(&what, 0);
            let now = count(NOW)?;
            let records: Array<_, CallRecord> = map("calls")?.try_into()?;
            let mut calls: Vec<Calls> = Vec::new();
            for (number, record) in (0..).zip(records.iter()) {
                let CallRecord { count, failed, ns, longest } = record?;
                calls.push(Calls { number, count, failed, ns, longest, inside: 0 });
            }
            let inside: HashMap<_, u32, BegunCall> = map("inside")?.try_into()?;
            // One that goes meanwhile is an error; it was counted a moment ago, or will be.
            for (_, begun) in inside.iter().filter_map(std::result::Result::ok) {
                if let Some(calls) = calls.get_mut(begun.number as usize) {
                    calls.inside += 1;
                    calls.ns += now.saturating_sub(begun.at);
                }
            }
            calls.retain(|c| c.count > 0 || c.inside > 0);
            let paths: HashMap<_, PathKey, OpenedRecord> = map("paths")?.try_into()?;
            let peers: HashMap<_, PeerKey, TalkRecord> = map("peers")?.try_into()?;
            Ok(Activity {
                calls,
                opened: paths.iter().filter_map(std::result::Result::ok).map(opened).collect(),
                peers: peers.iter().filter_map(std::result::Result::ok).map(peer).collect(),
                children: count(CHILDREN)?,
                huge_pages: count(HUGE_PAGES)?,
                lost: [count(0)?, count(1)?, count(2)?],
            })
        }
    }

    fn until_nul(bytes: &[u8]) -> Vec<u8> {
        bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()
    }

    fn opened((key, record): (PathKey, OpenedRecord)) -> Opened {
        let OpenedRecord { count, failed, flags, .. } = record;
        Opened { directory: key.directory, path: until_nul(&key.path), count, failed, flags }
    }

    fn peer((key, talk): (PeerKey, TalkRecord)) -> Peer {
        let address = |bytes: [u8; 16]| match i32::from(key.family) {
            libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
            libc::AF_INET6 => Some(Ipv6Addr::from(bytes).to_canonical()),
            _ => None,
        };
        // An abstract name begins with a NUL, and may have more.
        let name = match key.name {
            [0, rest @ ..] => {
                let end = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
                if end == 0 { Vec::new() } else { [&[0], rest.get(..end).unwrap_or_default()].concat() }
            }
            name => until_nul(&name),
        };
        Peer {
            family: key.family,
            kind: key.kind,
            protocol: key.protocol,
            local: address(key.local),
            local_port: key.local_port,
            remote: address(key.remote),
            remote_port: key.remote_port,
            name,
            pid: key.pid,
            calls: talk.calls,
            received: talk.received,
            sent: talk.sent,
            connected: talk.connected,
            accepted: talk.accepted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn it_sees_what_this_process_does() {
        let probe = match ActivityProbe::load() {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED probe for system calls: {why}"),
        };
        let mut watched = probe.watch(std::process::id() as i32).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a name that nobody else has");
        std::fs::write(&path, b"content").unwrap();
        assert!(std::fs::read(directory.path().join("not there")).is_err());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut here = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        here.write_all(&[7; 1000]).unwrap();
        there.read_exact(&mut [0; 1000]).unwrap();
        let (one, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap());
        one.send_to(&[1; 10], "127.0.0.1:9").unwrap();
        let _ = other.send_to(&[1; 20], "[::1]:11");
        // SAFETY: a number alone.
        (0..777).for_each(|_| assert!(unsafe { libc::syscall(libc::SYS_getppid) } > 0));

        let seen = watched.seen().unwrap();
        let calls = |number: i64| seen.calls.iter().find(|c| i64::from(c.number) == number).copied().unwrap();
        assert!(calls(libc::SYS_getppid).count >= 777, "{:?}", seen.calls);
        assert!(calls(libc::SYS_openat).failed >= 1 && calls(libc::SYS_openat).ns > 0);
        let opened = |end: &str| seen.opened.iter().find(|o| o.path.ends_with(end.as_bytes())).unwrap();
        let written = opened("a name that nobody else has");
        assert_eq!((written.count, written.failed, written.flags & 3), (1, 0, libc::O_WRONLY as u32), "{written:?}");
        assert_eq!((opened("not there").count, opened("not there").failed), (1, 1));
        let loopback = Some(IpAddr::from([127, 0, 0, 1]));
        let to = seen.peers.iter().find(|p| p.remote_port == port).unwrap();
        assert_eq!((to.remote, to.connected, to.sent), (loopback, 1, 1000), "{to:?}");
        let from = seen.peers.iter().find(|p| p.local_port == port).unwrap();
        assert_eq!((from.remote, from.accepted, from.received), (loopback, 1, 1000), "{from:?}");
        let datagram = seen.peers.iter().find(|p| p.remote_port == 9).unwrap();
        assert_eq!((datagram.remote, datagram.sent), (loopback, 10));
        assert_eq!(seen.lost, [0; 3]);
        assert_eq!(seen.children, 0);
    }
}
