//! FIFOs of a process: whoever finds one by its name can open it at any time, and the process would be parted from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use migrate_linux::libc;
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::open_files::SharedFile;
use super::outside_ends::moving;
use crate::error::{Doing, Result};
use crate::proc::fdinfo::read_fdinfo;
use crate::proc::listing::{for_each_fd_of_others, name_of};
use crate::resources::file::{is_fifo, listed, or_instead};

/// Device and inode.
type Inode = (u64, u64);

/// Those of which it is known that no other process has them.
#[derive(Debug, Default)]
pub struct Fifos {
    private: BTreeSet<Inode>,
    watch: Watch,
}

impl Fifos {
    /// Why those cannot move that another process has open too, in words.
    pub fn look(&mut self, pid: i32, list: &[SharedFile]) -> Result<Vec<String>> {
        let mut unknown: BTreeMap<Inode, Vec<&SharedFile>> = BTreeMap::new();
        for shared in moving(list).filter(|shared| is_fifo(&shared.file.view)) {
            unknown.entry(shared.file.inode()).or_default().push(shared);
        }
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        for opened in self.watch.opened() {
            self.private.remove(&opened);
        }
        self.private.retain(|inode| unknown.remove(inode).is_some());
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        // Before the search: who comes while it goes on is not missed.
        let mut watched: BTreeSet<Inode> = BTreeSet::new();
        for (inode, shared) in &unknown {
            let duplicate = shared.first().map(|shared| &shared.file.duplicate);
            watched.extend(duplicate.filter(|fd| self.watch.add(*inode, fd)).map(|_| *inode));
        }
        let holders = holders(&[pid, std::process::id() as i32], |inode| unknown.contains_key(&inode))?;
        let shared: BTreeSet<Inode> = holders.keys().map(|(inode, _)| *inode).collect();
        self.private.extend(watched.difference(&shared));
        let reason = |((inode, other), theirs): ((Inode, i32), Vec<i32>)| {
            let ours = unknown.get(&inode).map_or(&[][..], Vec::as_slice);
            let numbers: Vec<i32> = ours.iter().flat_map(|shared| shared.numbers.iter().copied()).collect();
            let path = ours.first().and_then(|shared| shared.file.view.path());
            let path = path.map_or("one that has been deleted".into(), |path| path.display().to_string());
            format!(
                "fd {}: the FIFO {path}, which process {other} ({}) has open as fd {} and stays; {}",
                listed(&numbers),
                name_of(other),
                listed(&theirs),
                or_instead(&numbers)
            )
        };
        Ok(holders.into_iter().map(reason).collect())
    }
}

/// Who has which of these files open, and as which descriptors. `except`: processes that do not matter.
pub fn holders(except: &[i32], wanted: impl Fn(Inode) -> bool) -> Result<BTreeMap<(Inode, i32), Vec<i32>>> {
    let mut holders: BTreeMap<(Inode, i32), Vec<i32>> = BTreeMap::new();
    let looked = for_each_fd_of_others(except, |other, entry, link| {
        let file = link.starts_with(b"/").then(|| fs::metadata(entry.path()).ok()).flatten();
        let inode = file.map(|file| (file.dev(), file.ino())).filter(|inode| wanted(*inode));
        if let Some(inode) = inode
            && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && read_fdinfo(other.alive, number).is_ok_and(|info| info.flags & libc::O_PATH as u32 == 0)
        {
            holders.entry((inode, other.pid)).or_default().push(number);
        }
    });
    looked.doing(|| "list the processes".into())?;
    Ok(holders)
}

/// Tells which files have been opened since, without a search (inotify(7)). Where it cannot be had, nothing is watched.
#[derive(Debug, Default)]
struct Watch {
    inotify: Option<OwnedFd>,
    watches: BTreeMap<i32, Inode>,
}

impl Watch {
    /// From now on also this one. Whether it can be watched.
    fn add(&mut self, inode: Inode, file: &OwnedFd) -> bool {
        if self.inotify.is_none() {
            self.inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        }
        let Some(inotify) = &self.inotify else { return false };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let Ok(number) = add_watch(inotify, path.as_str(), WatchFlags::OPEN) else { return false };
        self.watches.insert(number, inode);
        true
    }

    /// Those that have been opened since they were added, or since the last call.
    fn opened(&mut self) -> BTreeSet<Inode> {
        let mut opened = BTreeSet::new();
        let Some(inotify) = &self.inotify else { return opened };
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(inotify, &mut room);
        loop {
            match events.next().map(|event| event.wd()) {
                Ok(number) => match self.watches.get(&number) {
                    Some(inode) => drop(opened.insert(*inode)),
                    // There were too many.
                    None => opened.extend(self.watches.values()),
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return opened,
                Err(_) => {
                    opened.extend(self.watches.values());
                    return opened;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_opened_is_told_once() {
        let (one, other) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let inode = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).unwrap();
        let mut watch = Watch::default();
        assert!(watch.opened().is_empty());
        for file in [one.as_file(), other.as_file()] {
            assert!(watch.add(inode(file), &file.try_clone().unwrap().into()));
        }
        assert!(watch.opened().is_empty());
        File::open(other.path()).unwrap();
        assert_eq!(watch.opened(), BTreeSet::from([inode(other.as_file())]));
        assert!(watch.opened().is_empty());
    }

    #[test]
    fn who_has_it_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let inode = file.as_file().metadata().map(|m| (m.dev(), m.ino())).unwrap();
        let own = std::process::id() as i32;
        let found = holders(&[], |other| other == inode).unwrap();
        // Other tests in this process copy descriptors.
        let descriptors = found.get(&(inode, own)).expect("this process has it open");
        assert!(descriptors.contains(&file.as_file().as_raw_fd()), "{descriptors:?}");
        assert!(holders(&[own], |other| other == inode).unwrap().is_empty());
    }
}
