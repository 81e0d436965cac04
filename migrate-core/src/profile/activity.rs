//! What a process did: in words, from what the probe counted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use migrate_linux::activity_probe::{Activity, Calls, Opened, Peer};
use nix::libc;
use serde::Serialize;

use super::calls::{UNMOVABLE, name_of};
use crate::proc::link::{LinkTarget, read_cwd, read_fd_link};
use crate::proc::listing;
use crate::proc::process::Process;
use crate::resources::file::SocketView;
use crate::resources::file::socket::name_of as socket_name;

/// One kind of system call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallUse {
    /// Its name.
    pub name: String,
    /// How many ended. None: that was not counted.
    pub count: Option<u64>,
    /// How many of them with an error.
    pub failed: Option<u64>,
    /// Nanoseconds that threads were in it, all together.
    pub ns: u64,
    /// The longest that ended, nanoseconds.
    pub longest_ns: Option<u64>,
    /// Threads that were in it at the end.
    pub inside: u64,
}

/// A file that was opened, or was to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileUse {
    /// Its path, as far as it can be known afterwards.
    pub path: String,
    /// How often it was opened.
    pub opened: u64,
    /// How often in vain.
    pub failed: u64,
    /// It was opened to be written.
    pub written: bool,
}

/// The other end of sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerUse {
    /// What kind of socket: `TCP socket`, `unix socket`.
    pub kind: String,
    /// Address and port there, the path of a unix socket, or the process.
    pub peer: String,
    /// The port here, if the program chose it.
    pub local_port: Option<u16>,
    /// Connections that were made in that time.
    pub connected: u64,
    /// Connections that were taken.
    pub accepted: u64,
    /// Bytes.
    pub received: u64,
    /// Bytes.
    pub sent: u64,
    /// System calls.
    pub calls: u64,
}

/// What was found, as a profile has it.
pub(super) struct Found {
    pub source: &'static str,
    pub calls: Vec<CallUse>,
    pub files: Vec<FileUse>,
    pub peers: Vec<PeerUse>,
    pub cannot_move: Vec<String>,
    pub notes: Vec<String>,
}

/// Of what the probe has seen in so many seconds.
pub(super) fn of_probe(pid: i32, seen: &Activity, seconds: f64) -> Found {
    let mut calls: Vec<CallUse> = seen.calls.iter().map(call).collect();
    calls.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.name.cmp(&b.name)));
    let peers = peers(&seen.peers);
    let mut notes = Vec::new();
    for (lost, what) in seen.lost.iter().zip(["system calls", "openings of files", "uses of sockets"]) {
        if *lost > 0 {
            notes.push(format!(
                "{lost} {what} were not noted: there was no room for them, or their names could not be read"
            ));
        }
    }
    let mut cannot_move = unmovable(&calls);
    cannot_move.extend(connections(&peers, seconds));
    if seen.children > 0 {
        cannot_move.push(format!("child processes: {} were made; while it has one it cannot move", seen.children));
    }
    if seen.huge_pages > 0 {
        cannot_move.push(format!("huge pages (MAP_HUGETLB): {} mappings were made", seen.huge_pages));
    }
    Found { source: "ebpf", calls, files: files(pid, &seen.opened), peers, cannot_move, notes }
}

fn call(calls: &Calls) -> CallUse {
    CallUse {
        name: name_of(calls.number),
        count: Some(calls.count),
        failed: Some(calls.failed),
        ns: calls.ns,
        longest_ns: Some(calls.longest),
        inside: calls.inside,
    }
}

/// What those calls have given it that cannot move.
pub(super) fn unmovable(calls: &[CallUse]) -> Vec<String> {
    let used = |name: &str| {
        let call = calls.iter().find(|call| call.name == name)?;
        match (call.count, call.failed) {
            (Some(count), failed) => Some(count.saturating_sub(failed.unwrap_or(0))).filter(|n| *n > 0),
            (None, _) => Some(0),
        }
    };
    let line = |(names, what): &(&[&str], &str)| {
        let by: Vec<String> = names
            .iter()
            .filter_map(|name| match used(name)? {
                0 => Some((*name).to_string()),
                times => Some(format!("{name} {times} ×")),
            })
            .collect();
        (!by.is_empty()).then(|| format!("{what}: {}", by.join(", ")))
    };
    UNMOVABLE.iter().filter_map(line).collect()
}

/// Connections that came in that time. Whether they went again `check` shows: those that it has now it names.
fn connections(peers: &[PeerUse], seconds: f64) -> Vec<String> {
    let tcp = |peer: &&PeerUse| ["TCP socket", "MPTCP socket", "SCTP socket"].contains(&peer.kind.as_str());
    let line = |peer: &PeerUse| {
        let came = peer.connected + peer.accepted;
        let how = match (peer.connected, peer.accepted) {
            (0, 0) => "was there all the time".into(),
            (_, 0) => format!("{came} made in {seconds:.0} s"),
            (0, _) => format!("{came} taken in {seconds:.0} s"),
            _ => format!("{came} made or taken in {seconds:.0} s"),
        };
        let here = peer.local_port.map_or(String::new(), |port| format!(" at port {port} here"));
        format!(
            "{} with {}{here}: {how}; while it is there it cannot move",
            peer.kind.replace("socket", "connection"),
            peer.peer
        )
    };
    peers.iter().filter(tcp).filter(|peer| peer.peer != NOBODY).map(line).collect()
}

/// The other end of a socket without one.
const NOBODY: &str = "nobody";

fn files(pid: i32, opened: &[Opened]) -> Vec<FileUse> {
    let alive = Process::of(pid).map_or(pid, |process| process.alive);
    let at_work = match read_cwd(alive) {
        Ok(LinkTarget::Path { path, .. }) => Some(PathBuf::from(path)),
        _ => None,
    };
    let mut by_path: BTreeMap<String, FileUse> = BTreeMap::new();
    for file in opened {
        let path = Path::new(OsStr::from_bytes(&file.path));
        let below = match file.directory {
            _ if path.is_absolute() => None,
            libc::AT_FDCWD => at_work.clone(),
            number => match read_fd_link(alive, number) {
                Ok(LinkTarget::Path { path, .. }) => Some(path.into()),
                _ => Some(PathBuf::from("…")),
            },
        };
        let path = below.map_or_else(|| path.to_path_buf(), |below| below.join(path)).display().to_string();
        let known = by_path.entry(path.clone()).or_insert(FileUse { path, opened: 0, failed: 0, written: false });
        known.opened += file.count.saturating_sub(file.failed);
        known.failed += file.failed;
        known.written |= file.flags & libc::O_ACCMODE as u32 != 0;
    }
    let mut files: Vec<FileUse> = by_path.into_values().collect();
    // The sort keeps paths of the same number in their order.
    files.sort_by_key(|file| std::cmp::Reverse((file.opened, file.failed)));
    files
}

fn peers(seen: &[Peer]) -> Vec<PeerUse> {
    let mut peers: Vec<PeerUse> = Vec::new();
    for peer in seen {
        let view = SocketView { domain: peer.family.into(), kind: peer.kind.into(), protocol: peer.protocol.into() };
        let new = PeerUse {
            kind: socket_name(view),
            peer: other_end(peer),
            local_port: Some(peer.local_port).filter(|port| *port != 0),
            connected: peer.connected,
            accepted: peer.accepted,
            received: peer.received,
            sent: peer.sent,
            calls: peer.calls,
        };
        let same = |known: &&mut PeerUse| {
            (&known.kind, &known.peer, known.local_port) == (&new.kind, &new.peer, new.local_port)
        };
        match peers.iter_mut().find(same) {
            Some(known) => {
                known.connected += new.connected;
                known.accepted += new.accepted;
                known.received += new.received;
                known.sent += new.sent;
                known.calls += new.calls;
            }
            None => peers.push(new),
        }
    }
    peers.sort_by(|a, b| {
        (b.received + b.sent, b.calls).cmp(&(a.received + a.sent, a.calls)).then_with(|| a.peer.cmp(&b.peer))
    });
    peers
}

fn other_end(peer: &Peer) -> String {
    let name = match peer.name.as_slice() {
        [] => None,
        [0, abstract_name @ ..] => Some(format!("@{}", String::from_utf8_lossy(abstract_name))),
        path => Some(String::from_utf8_lossy(path).into_owned()),
    };
    match (peer.remote, peer.remote_port, name, peer.pid) {
        (Some(address), 0, ..) if address.is_unspecified() => NOBODY.into(),
        (Some(address), 0, ..) => IpAddr::to_string(&address),
        (Some(address), port, ..) => SocketAddr::new(address, port).to_string(),
        (None, _, Some(name), 0) => name,
        (None, _, Some(name), pid) => format!("{name} (process {pid}, {})", listing::name_of(pid as i32)),
        (None, _, None, 0) => NOBODY.into(),
        (None, _, None, pid) => format!("process {pid} ({})", listing::name_of(pid as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(remote: [u8; 4], remote_port: u16) -> Peer {
        Peer {
            family: libc::AF_INET as u16,
            kind: libc::SOCK_STREAM as u16,
            protocol: libc::IPPROTO_TCP as u16,
            local: None,
            local_port: 0,
            remote: Some(remote.into()),
            remote_port,
            name: Vec::new(),
            pid: 0,
            calls: 1,
            received: 1,
            sent: 2,
            connected: 3,
            accepted: 0,
        }
    }

    #[test]
    fn connections_are_named() {
        let found = peers(&[peer([10, 0, 0, 2], 5432), peer([0; 4], 0), peer([10, 0, 0, 2], 5432)]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].peer.as_str(), found[0].connected, found[0].sent), ("10.0.0.2:5432", 6, 4));
        assert_eq!(
            connections(&found, 9.9),
            ["TCP connection with 10.0.0.2:5432: 6 made in 10 s; while it is there it cannot move"]
        );
        let unix = Peer { family: 1, protocol: 0, remote: None, name: b"\0abstract".to_vec(), ..peer([0; 4], 0) };
        assert_eq!(
            (other_end(&unix), socket_name(SocketView { domain: 1, kind: 1, protocol: 0 })),
            ("@abstract".into(), "unix socket".into())
        );
    }

    #[test]
    fn what_cannot_move_is_named_once() {
        let call = |name: &str, count, failed| CallUse {
            name: name.into(),
            count: Some(count),
            failed: Some(failed),
            ns: 1,
            longest_ns: None,
            inside: 0,
        };
        let calls =
            [call("io_uring_enter", 9, 1), call("io_uring_setup", 2, 0), call("userfaultfd", 3, 3), call("read", 1, 0)];
        assert_eq!(unmovable(&calls), ["an io_uring: io_uring_setup 2 ×, io_uring_enter 8 ×"]);
    }

    #[test]
    fn files_are_found_again() {
        let opened =
            |directory, path: &[u8], failed| Opened { directory, path: path.to_vec(), count: 2, failed, flags: 1 };
        let own = std::process::id() as i32;
        let all =
            [opened(-100, b"/etc/a", 2), opened(-100, b"/etc/b", 0), opened(7777, b"c", 1), opened(-100, b"d", 0)];
        let found = files(own, &all);
        let here = std::env::current_dir().expect("a directory").join("d").display().to_string();
        let paths: Vec<&str> = found.iter().map(|f| f.path.as_str()).collect();
        assert!(paths.contains(&here.as_str()) && paths.contains(&"…/c"), "{paths:?}");
        assert_eq!((paths.last(), found.last().map(|f| f.failed)), (Some(&"/etc/a"), Some(2)));
    }
}
