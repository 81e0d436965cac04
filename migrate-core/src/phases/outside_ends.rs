//! The other ends of what a process has open, where another process has them: they would be parted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use migrate_linux::{kcmp, libc};

use crate::error::{Doing, Result};
use crate::proc::link::{LinkTarget, parse_link};
use crate::proc::listing::{for_each_fd_of_others, name_of};
use crate::resources::file::{HeldFile, listed, or_instead, socket};

/// A pipe that another process has open too would be cut in two. Its inode, and the reason in words. `pipes`: by inode, with the
/// numbers that the process has them at.
pub fn of_pipes(pid: i32, pipes: &BTreeMap<u64, Vec<i32>>) -> Result<Vec<(u64, String)>> {
    let mut holders: BTreeMap<(u64, i32), Vec<i32>> = BTreeMap::new();
    let looked = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        if let LinkTarget::Pipe(inode) = parse_link(link)
            && pipes.contains_key(&inode)
            && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
        {
            holders.entry((inode, other)).or_default().push(number);
        }
    });
    looked.doing(|| "list the processes".into())?;
    let reason = |((inode, other), theirs): ((u64, i32), Vec<i32>)| {
        let ours = pipes.get(&inode).map_or(&[][..], Vec::as_slice);
        let who = format!("process {other} ({})", name_of(other));
        let why = format!(
            "fd {}: a pipe (pipe:[{inode}]) that {who} has as fd {} and stays; {}",
            listed(ours),
            listed(&theirs),
            or_instead(ours)
        );
        (inode, why)
    };
    Ok(holders.into_iter().map(reason).collect())
}

/// The sockets of a process of which it is known whether another one has them too. Those of unix are left out: they have other ends.
#[derive(Debug, Default)]
pub struct SharedSockets(BTreeSet<u64>);

impl SharedSockets {
    /// What is lost of those that are new: both processes have them afterwards. In words.
    pub fn look<'a>(&mut self, pid: i32, all: impl Iterator<Item = At<'a>>) -> Result<Vec<String>> {
        let mut new = BTreeMap::new();
        for (held, numbers) in all {
            if let (LinkTarget::Socket(inode), Some(sort)) = (&held.view.link, held.view.socket)
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
                    name_of(other),
                    entry.file_name().to_string_lossy()
                ));
            }
        });
        looked.doing(|| "list the processes".into())?;
        Ok(reasons)
    }
}

/// A description, and the numbers that the process has it at.
pub type At<'a> = (&'a HeldFile, &'a [i32]);

/// Descriptions that another process has too, and with them their locks. In words.
pub fn of_locks<'a>(pid: i32, locked: impl Iterator<Item = At<'a>>) -> Result<Vec<String>> {
    let mut by_inode: BTreeMap<(u64, u64), Vec<At<'_>>> = BTreeMap::new();
    for (held, numbers) in locked {
        by_inode.entry((held.view.stat.st_dev, held.view.stat.st_ino)).or_default().push((held, numbers));
    }
    let own = std::process::id() as i32;
    let mut reasons = Vec::new();
    let looked = for_each_fd_of_others(&[pid, own], |other, entry, link| {
        let metadata = link.starts_with(b"/").then(|| fs::metadata(entry.path()).ok()).flatten();
        let candidates = metadata.and_then(|m| by_inode.get(&(m.dev(), m.ino())));
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { return };
        for (held, ours) in candidates.into_iter().flatten() {
            if kcmp::same_file(own, held.duplicate.as_raw_fd(), other, number).is_ok_and(|same| same) {
                reasons.push(format!(
                    "fd {}: has a lock on {}, which process {other} ({}) has too, as fd {number}, and stays; {}",
                    listed(ours),
                    String::from_utf8_lossy(link),
                    name_of(other),
                    or_instead(ours)
                ));
            }
        }
    });
    looked.doing(|| "list the processes".into())?;
    Ok(reasons)
}
