//! The other ends of what a process has open, where another process has them: they would be parted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use migrate_linux::{kcmp, libc};

use super::fifos::Fifos;
use super::open_files::{Findings, SharedFile};
use super::terminals::Terminals;
use crate::error::{Doing, Result};
use crate::image::ObjectId;
use crate::proc::link::{LinkTarget, parse_link};
use crate::proc::listing::{for_each_fd_of_others, name_of};
use crate::resources::file::{listed, or_instead, socket};
use crate::resources::process::file_locks;

/// What is known of them. A search through all processes is dear: it is made for what is not known, and in the freeze that is hardly
/// ever anything.
#[derive(Debug, Default)]
pub struct OutsideEnds {
    pipes: Pipes,
    fifos: Fifos,
    sockets: Sockets,
    locks: Locks,
    terminals: Terminals,
}

impl OutsideEnds {
    /// Looks for all of them.
    pub fn look(&mut self, pid: i32, list: &[SharedFile], findings: &mut Findings) -> Result<()> {
        findings.obstacles.extend(self.pipes.look(pid, list)?);
        findings.obstacles.extend(self.fifos.look(pid, list)?);
        findings.losses.extend(self.sockets.look(pid, list)?);
        self.look_for_locks(pid, list, findings)?;
        findings.obstacles.extend(self.terminals.look(pid, list)?);
        Ok(())
    }

    /// Looks again while the list is the same: others may have come to pipes and terminals that have names.
    pub fn look_again(&mut self, pid: i32, list: &[SharedFile], findings: &mut Findings) -> Result<()> {
        findings.obstacles.extend(self.pipes.look(pid, list)?);
        findings.obstacles.extend(self.fifos.look(pid, list)?);
        findings.obstacles.extend(self.terminals.look(pid, list)?);
        Ok(())
    }

    /// Looks for those that share locks.
    pub fn look_for_locks(&mut self, pid: i32, list: &[SharedFile], findings: &mut Findings) -> Result<()> {
        findings.obstacles.extend(self.locks.look(pid, list)?);
        Ok(())
    }
}

/// Those that move.
pub fn moving(list: &[SharedFile]) -> impl Iterator<Item = &SharedFile> {
    list.iter().filter(|shared| shared.moves())
}

/// The pipes of which it is known that no other process has them, by inode.
#[derive(Debug, Default)]
struct Pipes(BTreeSet<u64>);

impl Pipes {
    /// Why those cannot move that another process has open too: they would be cut in two. In words.
    fn look(&mut self, pid: i32, list: &[SharedFile]) -> Result<Vec<String>> {
        let mut unknown: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
        for shared in moving(list) {
            if let LinkTarget::Pipe(inode) = shared.file.view.link {
                unknown.entry(inode).or_default().extend(&shared.numbers);
            }
        }
        self.0.retain(|inode| unknown.remove(inode).is_some());
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let mut holders: BTreeMap<(u64, i32), Vec<i32>> = BTreeMap::new();
        let looked = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
            if let LinkTarget::Pipe(inode) = parse_link(link)
                && unknown.contains_key(&inode)
                && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            {
                holders.entry((inode, other.pid)).or_default().push(number);
            }
        });
        looked.doing(|| "list the processes".into())?;
        let shared: BTreeSet<u64> = holders.keys().map(|(inode, _)| *inode).collect();
        let reason = |((inode, other), theirs): ((u64, i32), Vec<i32>)| {
            let ours = unknown.get(&inode).map_or(&[][..], Vec::as_slice);
            let who = format!("process {other} ({})", name_of(other));
            let (theirs, remedy) = (listed(&theirs), or_instead(ours));
            format!("fd {}: a pipe (pipe:[{inode}]) that {who} has as fd {theirs} and stays; {remedy}", listed(ours))
        };
        let reasons = holders.into_iter().map(reason).collect();
        self.0.extend(unknown.into_keys().filter(|inode| !shared.contains(inode)));
        Ok(reasons)
    }
}

/// The sockets of which it is known whether another process has them too, by inode. Those of unix are left out: they have other ends.
#[derive(Debug, Default)]
struct Sockets(BTreeSet<u64>);

impl Sockets {
    /// What is lost of those that are new: both processes have them afterwards. In words.
    fn look(&mut self, pid: i32, list: &[SharedFile]) -> Result<Vec<String>> {
        let mut new = BTreeMap::new();
        for SharedFile { file, numbers, .. } in moving(list) {
            if let (LinkTarget::Socket(inode), Some(sort)) = (&file.view.link, file.view.socket)
                && sort.domain != libc::AF_UNIX
                && self.0.insert(*inode)
            {
                new.insert(*inode, (socket::name_of(sort), numbers));
            }
        }
        let mut reasons = Vec::new();
        if new.is_empty() {
            return Ok(reasons);
        }
        let looked = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
            if let LinkTarget::Socket(inode) = parse_link(link)
                && let Some((name, ours)) = new.get(&inode)
            {
                reasons.push(format!(
                    "fd {}: process {other} ({}) has this {name} too, as fd {}, and keeps it: what comes for it here goes on coming there",
                    listed(ours),
                    name_of(other.pid),
                    entry.file_name().to_string_lossy()
                ));
            }
        });
        looked.doing(|| "list the processes".into())?;
        Ok(reasons)
    }
}

/// The descriptions with locks of their own of which it is known that no other process has them.
#[derive(Debug, Default)]
struct Locks(BTreeSet<ObjectId>);

impl Locks {
    /// Why those cannot move that another process has too: a lock that is given up here would be theirs too. In words.
    fn look(&mut self, pid: i32, list: &[SharedFile]) -> Result<Vec<String>> {
        let locked: Vec<&SharedFile> =
            moving(list).filter(|shared| file_locks::belong_to_description(&shared.file.view.info)).collect();
        let unknown = || locked.iter().copied().filter(|shared| !self.0.contains(&shared.object));
        if unknown().next().is_none() {
            return Ok(Vec::new());
        }
        let mut reasons: Vec<String> = unknown()
            .filter(|shared| shared.numbers.is_empty())
            .map(|shared| format!("inside fd {}: a description with a lock; receive it first", shared.file.view.number))
            .collect();
        let mut by_inode: BTreeMap<(u64, u64), Vec<&SharedFile>> = BTreeMap::new();
        for shared in unknown() {
            by_inode.entry(shared.file.inode()).or_default().push(shared);
        }
        let own = std::process::id() as i32;
        let looked = for_each_fd_of_others(&[pid, own], |other, entry, link| {
            let metadata = link.starts_with(b"/").then(|| fs::metadata(entry.path()).ok()).flatten();
            let candidates = metadata.and_then(|m| by_inode.get(&(m.dev(), m.ino())));
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { return };
            for SharedFile { file, numbers, .. } in candidates.into_iter().flatten() {
                if kcmp::same_file(own, file.duplicate.as_raw_fd(), other.alive, number).is_ok_and(|same| same) {
                    reasons.push(format!(
                        "fd {}: has a lock on {}, which process {other} ({}) has too, as fd {number}, and stays; {}",
                        listed(numbers),
                        String::from_utf8_lossy(link),
                        name_of(other.pid),
                        or_instead(numbers)
                    ));
                }
            }
        });
        looked.doing(|| "list the processes".into())?;
        if reasons.is_empty() {
            self.0 = locked.iter().map(|shared| shared.object).collect();
        }
        Ok(reasons)
    }
}
