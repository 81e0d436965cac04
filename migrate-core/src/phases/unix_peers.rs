//! To whom the unix sockets of a process are connected, asked of sock_diag(7) for all at once, and which of them another process has
//! a part in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use migrate_linux::libc;
use migrate_linux::unix_diag::{self, UnixSocket};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::open_files::{Findings, SharedFile};
use crate::error::{Doing, Result};
use crate::proc::link::{LinkTarget, parse_link};
use crate::proc::listing::{for_each_fd_of_others, name_of};
use crate::resources::file::socket::unix::{Peer, UnixView};
use crate::resources::file::{FileView, HeldFile, or_instead};

/// What is known of unix sockets.
#[derive(Debug, Default)]
pub struct UnixPeers {
    /// All of this network namespace.
    told: Vec<UnixSocket>,
    by_inode: HashMap<u32, usize>,
    /// Those of the process of which it is known that no other process has them.
    private: BTreeSet<u32>,
    /// Those of others that are connected to one of it, and who has them.
    holders: BTreeMap<u32, String>,
    /// Those that nobody seems to have, though they were waited for to be closed: they are in flight.
    in_flight: BTreeSet<u32>,
}

/// Sockets in flight in one another, and nowhere else, stay connected to their peers until the kernel looks for such: whenever a unix
/// socket is closed, but not for the last descriptor of one that is in flight itself (`unix_gc`, net/unix/garbage.c). Has it look, and
/// gives it the time to close these.
fn end_what_nobody_can_receive(suspects: &BTreeSet<u32>) -> Result<()> {
    const LOOKS: usize = 25;
    drop(UnixStream::pair());
    for _ in 0..LOOKS {
        sleep(Duration::from_millis(2));
        let told = unix_diag::sockets().doing(|| "ask for all unix sockets (sock_diag)".into())?;
        if !told.iter().any(|socket| suspects.contains(&socket.inode)) {
            break;
        }
    }
    Ok(())
}

fn is_unix(view: &FileView) -> bool {
    view.socket.is_some_and(|socket| socket.domain == libc::AF_UNIX)
}

/// Those that move.
fn moving(list: &[SharedFile]) -> impl Iterator<Item = &SharedFile> {
    list.iter().filter(|shared| is_unix(&shared.file.view) && shared.moves())
}

fn inode(file: &HeldFile) -> u32 {
    file.view.stat.st_ino as u32
}

impl UnixPeers {
    /// Asks, if there is any of the process, and notes with each what is told of it.
    pub fn ask(&mut self, list: &mut [SharedFile], still: bool) -> Result<()> {
        if moving(list).next().is_none() {
            self.told.clear();
            return Ok(());
        }
        self.told = unix_diag::sockets().doing(|| "ask for all unix sockets (sock_diag)".into())?;
        self.by_inode = self.told.iter().enumerate().map(|(i, socket)| (socket.inode, i)).collect();
        list.iter_mut().for_each(|shared| self.note(&mut shared.file, still));
        Ok(())
    }

    /// Notes what has been told of one.
    pub fn note(&self, file: &mut HeldFile, still: bool) {
        if is_unix(&file.view) {
            let told = self.of(inode(file)).cloned();
            // A queue that has been read is not read again.
            let read = file.view.unix.take().filter(|view| view.still && still).map(|view| view.queue);
            file.view.unix =
                told.map(|told| UnixView { queue: read.unwrap_or_default(), ..UnixView::new(told, still) });
        }
    }

    fn of(&self, inode: u32) -> Option<&UnixSocket> {
        self.told.get(*self.by_inode.get(&inode)?)
    }

    /// Finds out who is connected to whom, when all of the process are known.
    pub fn connect(&mut self, pid: i32, list: &mut [SharedFile], still: bool, findings: &mut Findings) -> Result<()> {
        let own: BTreeMap<u32, i32> =
            moving(list).map(|shared| (inode(&shared.file), shared.file.view.number)).collect();
        // What is replaced there is closed for those that were connected to it.
        let replaced = list.iter().filter(|shared| is_unix(&shared.file.view) && !shared.moves());
        let replaced: BTreeSet<u32> = replaced.map(|shared| inode(&shared.file)).collect();
        let mut waiting = HashMap::new();
        for listener in own.keys().filter_map(|inode| self.of(*inode)) {
            waiting.extend(listener.pending.iter().map(|client| (*client, listener.inode)));
        }
        let sent: HashMap<u32, u32> =
            own.keys().filter_map(|inode| self.of(*inode)).map(|socket| (socket.inode, socket.sent)).collect();
        let mut outside = BTreeMap::new();
        for shared in list.iter_mut().filter(|shared| is_unix(&shared.file.view) && shared.moves()) {
            let number = shared.file.view.number;
            let inode = inode(&shared.file);
            let Some(view) = &mut shared.file.view.unix else {
                findings.obstacles.push(format!("fd {number}: a unix socket of another network namespace cannot move"));
                continue;
            };
            view.peer = match view.told.peer {
                None => Peer::None,
                Some(0) => waiting.get(&inode).map_or(Peer::Gone, |listener| Peer::Waiting(*listener)),
                Some(peer) if own.contains_key(&peer) => Peer::Inside(peer),
                Some(peer) if replaced.contains(&peer) => Peer::Gone,
                Some(peer) => {
                    outside.insert(peer, number);
                    Peer::Outside
                }
            };
            if !self.private.contains(&inode)
                && let Ok(told) = getsockopt(&shared.file.duplicate, PeerCredentials)
                && ![0, pid].contains(&told.pid())
            {
                findings.losses.push(format!(
                    "fd {number}: SO_PEERCRED of this unix socket tells of process {}; at the destination it tells of this one",
                    told.pid()
                ));
            }
            view.weight = view.told.peer.and_then(|peer| sent.get(&peer)).map(|sent| *sent as usize);
            if matches!(view.peer, Peer::Waiting(_)) && view.told.sent > 0 {
                findings.obstacles.push(format!(
                    "fd {number}: it has sent something over a connection that nobody has accepted yet, and that cannot be read; let the \
                     program accept it"
                ));
            }
            for client in view.told.pending.iter().filter(|client| **client != 0 && !own.contains_key(client)) {
                outside.insert(*client, number);
            }
            let unread = |other: &&UnixSocket| other.inode == 0 && other.name == view.told.name && other.waiting > 0;
            if view.told.pending.contains(&0) && self.told.iter().any(|other| unread(&other)) {
                findings.obstacles.push(format!(
                    "fd {number}: a connection that nobody has accepted yet was closed with something in it, which cannot be read; let \
                     the program accept it"
                ));
            }
        }
        // Datagram sockets of others that speak to one of these.
        let is_known = |inode: &u32| *inode == 0 || own.contains_key(inode) || replaced.contains(inode);
        let speak_here = |socket: &&UnixSocket| !is_known(&socket.inode);
        for socket in self.told.iter().filter(speak_here) {
            if let Some(number) = socket.peer.and_then(|peer| own.get(&peer)) {
                outside.entry(socket.inode).or_insert(*number);
            }
        }
        self.name_others(pid, &own, &outside, still, findings)
    }

    /// Says which of them other processes have, and what is connected to what of others.
    fn name_others(
        &mut self,
        pid: i32,
        own: &BTreeMap<u32, i32>,
        outside: &BTreeMap<u32, i32>,
        still: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        self.private.retain(|inode| own.contains_key(inode));
        let unknown: BTreeSet<u32> = own.keys().filter(|inode| !self.private.contains(inode)).copied().collect();
        self.holders.retain(|inode, _| outside.contains_key(inode));
        let strange = outside.keys().filter(|inode| !self.holders.contains_key(inode)).copied();
        let searched: BTreeSet<u32> = unknown.iter().copied().chain(strange).collect();
        let found = if searched.is_empty() { BTreeMap::new() } else { search(pid, &searched)? };
        for inode in unknown {
            match (found.get(&inode), own.get(&inode)) {
                (Some(holder), Some(number)) => findings.obstacles.push(format!(
                    "fd {number}: a unix socket (socket:[{inode}]) that {holder} too and stays; {}",
                    or_instead(&[*number])
                )),
                _ => drop(self.private.insert(inode)),
            }
        }
        let mut unseen = BTreeSet::new();
        for (inode, number) in outside {
            let here = self.of_number(own, *number);
            let datagram = here.is_some_and(|socket| socket.kind == libc::SOCK_DGRAM);
            let speaks = here.is_some_and(|socket| socket.peer == Some(*inode));
            let name = self.of(*inode).map(|socket| socket.name.as_slice()).unwrap_or_default();
            // A relative path leads there only from where it was bound.
            let name = if matches!(name, [0 | b'/', ..]) { shown(name) } else { String::new() };
            let known = self.holders.contains_key(inode);
            let holder = match self.holders.get(inode).or_else(|| found.get(inode)) {
                Some(holder) => holder.clone(),
                // It may be in flight: that shows when the process stands still.
                None if !still && name.is_empty() => {
                    unseen.insert(*inode);
                    continue;
                }
                None => "a process has that cannot be seen from here".into(),
            };
            match (datagram, speaks) {
                // Told once.
                (true, _) if known => {}
                (true, true) if !name.is_empty() => findings.losses.push(format!(
                    "fd {number}: a datagram socket that is connected to {name}, which {holder}; at the destination it is \
                     connected to whoever has that name there"
                )),
                (true, false) => findings.losses.push(format!(
                    "fd {number}: socket:[{inode}], which {holder}, is connected to this datagram socket; it will be told that the \
                     connection was refused"
                )),
                _ => findings.obstacles.push(format!(
                    "fd {number}: a unix socket that is connected to socket:[{inode}], which {holder} and stays; {}",
                    or_instead(&[*number])
                )),
            }
            self.holders.insert(*inode, holder);
        }
        if !unseen.is_subset(&self.in_flight) {
            end_what_nobody_can_receive(&unseen)?;
        }
        self.in_flight = unseen;
        Ok(())
    }

    fn of_number(&self, own: &BTreeMap<u32, i32>, number: i32) -> Option<&UnixSocket> {
        let (inode, _) = own.iter().find(|(_, known)| **known == number)?;
        self.of(*inode)
    }
}

/// Who has these sockets, in words.
fn search(pid: i32, inodes: &BTreeSet<u32>) -> Result<BTreeMap<u32, String>> {
    let mut holders = BTreeMap::new();
    let looked = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        if let LinkTarget::Socket(inode) = parse_link(link)
            && let Ok(inode) = u32::try_from(inode)
            && inodes.contains(&inode)
        {
            let number = entry.file_name();
            let holder = format!("process {other} ({}) has as fd {}", name_of(other.pid), number.display());
            holders.entry(inode).or_insert(holder);
        }
    });
    looked.doing(|| "list the processes".into())?;
    Ok(holders)
}

/// A name as people write it.
fn shown(name: &[u8]) -> String {
    match name {
        [0, rest @ ..] => format!("@{}", rest.escape_ascii()),
        path => path.escape_ascii().to_string(),
    }
}
