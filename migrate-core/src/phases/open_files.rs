//! The process's open files: found and held by duplicates while it runs, and looked at again in the freeze, where only what has
//! changed since costs more than two microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use migrate_linux::kcmp;
use migrate_linux::libc;
use migrate_linux::pidfd::PidFd;
use migrate_linux::remote::Batch;
use nix::sys::stat::FileStat;

use super::freeze::FrozenProcess;
use crate::error::{Doing, Error, Result};
use crate::image::{Descriptor, ObjectId};
use crate::in_two::both;
use crate::proc::fdinfo::{FdInfo, parse_fdinfo, read_fdinfo};
use crate::proc::is_gone;
use crate::proc::link::{LinkTarget, read_fd_link};
use crate::proc::listing::{count_fds, for_each_fd_of_others, read_fds};
use crate::resources::Verdict;
use crate::resources::file::{self, FileImage, FileView, HeldFile};
use crate::resources::process::record_locks::{self, RecordLock};

/// An open file description and the descriptors that refer to it.
#[derive(Debug)]
pub struct SharedFile {
    /// Its number in the image; it stays.
    pub object: ObjectId,
    /// It.
    pub file: HeldFile,
    /// The descriptors.
    pub numbers: Vec<i32>,
    /// The fdinfo of the one that the view names, kept open: reading it again costs a fifth of opening it.
    info: File,
    /// What the destination has made of it, or been told to.
    told: Option<FileImage>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// In no order.
    pub list: Vec<SharedFile>,
    next_object: u32,
    /// The pipes of which it is known that no other process has them.
    private_pipes: BTreeSet<u64>,
}

/// What a look at the open files showed, beside them.
#[derive(Debug, Default)]
pub struct Findings {
    /// What cannot move.
    pub obstacles: Vec<String>,
    /// What is lost.
    pub losses: Vec<String>,
}

/// The open files of the frozen process.
pub struct CapturedFiles {
    /// Those descriptions that are not as the destination has been told.
    pub files: Vec<(ObjectId, FileImage)>,
    /// The table, ascending.
    pub descriptors: Vec<Descriptor>,
    /// Record locks.
    pub locks: Vec<RecordLock>,
}

impl OpenFiles {
    /// Looks at the descriptor table: what is known and still the same is kept, the rest is held and examined. While the process
    /// runs, what changes meanwhile is left to the next look.
    pub fn look(&mut self, pid: i32, pidfd: &PidFd) -> Result<Findings> {
        let mut findings = Findings::default();
        let numbers = read_fds(pid).doing(|| format!("list the descriptors of {pid}"))?;
        let new = self.keep_known(pid, &numbers)?;
        // Descriptors of one description are on one inode; only those need comparing.
        let mut by_inode: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
        if !new.is_empty() {
            for (i, shared) in self.list.iter().enumerate() {
                by_inode.entry(inode(&shared.file)).or_default().push(i);
            }
        }
        for number in new {
            let (held, info) = match hold(pid, pidfd, number) {
                Ok(Some(held)) => held,
                // It has been closed since it was listed, or is another one by now: a later look finds that.
                Ok(None) => continue,
                Err(e) if is_gone(&e) || e.raw_os_error() == Some(libc::EBADF) => continue,
                Err(e) => return Err(Error::io(format!("look at descriptor {number} of {pid}"), e)),
            };
            let candidates = by_inode.entry(inode(&held)).or_default();
            if let Some(shared) = self.same_description(&held, candidates)? {
                shared.numbers.push(number);
                continue;
            }
            match file::preflight(&held.view) {
                Verdict::Supported => {}
                Verdict::With(loss) => findings.losses.push(loss),
                Verdict::Unsupported(why) => {
                    findings.obstacles.push(why);
                    continue;
                }
            }
            findings.obstacles.extend(record_locks::parse(number, &held.view.info).err());
            candidates.push(self.list.len());
            let object = ObjectId(self.next_object);
            self.next_object += 1;
            self.list.push(SharedFile { object, file: held, numbers: vec![number], info, told: None });
        }
        findings.obstacles.extend(self.shared_pipes(pid)?);
        Ok(findings)
    }

    /// Searches all processes for those of its pipes that are not known to be its own; a search is dear, and in the freeze there is
    /// hardly ever one of which that is not known.
    fn shared_pipes(&mut self, pid: i32) -> Result<Vec<String>> {
        let pipes = self.list.iter().filter_map(|shared| match shared.file.view.link {
            LinkTarget::Pipe(inode) => Some(inode),
            _ => None,
        });
        let pipes: BTreeSet<u64> = pipes.collect();
        self.private_pipes.retain(|inode| pipes.contains(inode));
        let unknown: BTreeSet<u64> = pipes.difference(&self.private_pipes).copied().collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let held = pipes_held_by_others(pid, &unknown)?;
        self.private_pipes.extend(unknown.into_iter().filter(|inode| held.iter().all(|(other, _)| other != inode)));
        Ok(held.into_iter().map(|(_, reason)| reason).collect())
    }

    /// The same in the frozen process, of which it also reads what the descriptions are now.
    ///
    /// Nearly always no number has come, gone or become another description: so all that is to be asked is asked at once, and that by
    /// two OS threads. Each asks something else, because two that ask the same wait for the same locks in the kernel.
    pub fn look_again(&mut self, pid: i32, pidfd: &PidFd) -> Result<Findings> {
        let count = count_fds(pid).doing(|| format!("count the descriptors of {pid}"))?;
        let known = self.known();
        let mut now = None;
        // As many as are known, and all of those still there: then there are no others.
        if count == Some(known.len()) {
            let compare = || Ok::<_, Error>((self.compare(pid, &known)?, self.read_stats()?));
            let (compared, infos) = both(known.len(), compare, || self.read_infos(pid))?;
            let (same, stats) = compared?;
            if same.iter().all(|same| *same == Some(true)) {
                now = Some((infos?, stats));
            }
        }
        let (findings, (infos, stats)) = match now {
            Some(now) => (Findings { obstacles: self.shared_pipes(pid)?, losses: Vec::new() }, now),
            None => (self.look(pid, pidfd)?, (self.read_infos(pid)?, self.read_stats()?)),
        };
        for (shared, (info, stat)) in self.list.iter_mut().zip(infos.into_iter().zip(stats)) {
            (shared.file.view.info, shared.file.view.stat) = (info, stat);
        }
        Ok(findings)
    }

    /// The fdinfo of each description, and who has locked it. (/proc/locks would be one read for all, and waits ten milliseconds for an
    /// RCU grace period.)
    fn read_infos(&self, pid: i32) -> Result<Vec<FdInfo>> {
        let read = |shared: &SharedFile| {
            let number = shared.file.view.number;
            read_info(&shared.info, pid, number).doing(|| format!("look at descriptor {number}"))
        };
        self.list.iter().map(read).collect()
    }

    /// The fstat(2) of each.
    fn read_stats(&self) -> Result<Vec<FileStat>> {
        let stat = |shared: &SharedFile| {
            let stat = nix::sys::stat::fstat(&shared.file.duplicate).map_err(std::io::Error::from);
            stat.doing(|| format!("stat descriptor {}", shared.file.view.number))
        };
        self.list.iter().map(stat).collect()
    }

    /// The numbers, ascending, and which of the descriptions each is.
    fn known(&self) -> Vec<(i32, usize)> {
        let mut known = Vec::with_capacity(self.list.len());
        for (i, shared) in self.list.iter().enumerate() {
            known.extend(shared.numbers.iter().map(|&number| (number, i)));
        }
        known.sort_unstable();
        known
    }

    /// Whether each of these numbers is still the description that it was. None: it has been closed.
    fn compare(&self, pid: i32, known: &[(i32, usize)]) -> Result<Vec<Option<bool>>> {
        let own = std::process::id() as i32;
        let same = |&(number, i): &(i32, usize)| {
            let duplicate = self.list[i].file.duplicate.as_raw_fd();
            match kcmp::same_file(own, duplicate, pid, number) {
                Ok(same) => Ok(Some(same)),
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
                Err(e) => Err(Error::io("compare descriptors (kcmp)".into(), e)),
            }
        };
        known.iter().map(same).collect()
    }

    /// Drops what is no longer there, and returns the numbers that are not known.
    fn keep_known(&mut self, pid: i32, numbers: &[i32]) -> Result<Vec<i32>> {
        let mut known = self.known();
        let is_known = |number: &i32| known.binary_search_by_key(number, |(number, _)| *number).is_ok();
        let mut new: Vec<i32> = numbers.iter().copied().filter(|number| !is_known(number)).collect();
        known.retain(|(number, _)| numbers.binary_search(number).is_ok());
        let same = self.compare(pid, &known)?;
        self.list.iter_mut().for_each(|shared| shared.numbers.clear());
        for ((number, i), same) in known.into_iter().zip(same) {
            match same {
                Some(true) => self.list[i].numbers.push(number),
                Some(false) => new.push(number),
                // Closed since it was listed.
                None => {}
            }
        }
        new.sort_unstable();
        self.list.retain(|shared| !shared.numbers.is_empty());
        for shared in &mut self.list {
            if let Some(&first) = shared.numbers.first()
                && first != shared.file.view.number
            {
                match File::open(format!("/proc/{pid}/fdinfo/{first}")) {
                    Ok(info) => (shared.file.view.number, shared.info) = (first, info),
                    // Closed since it was listed: a later look finds that.
                    Err(e) if is_gone(&e) => {}
                    Err(e) => return Err(Error::io(format!("look at descriptor {first}"), e)),
                }
            }
        }
        Ok(new)
    }

    /// The one that `held` is a duplicate of, if it is known.
    fn same_description(&mut self, held: &HeldFile, candidates: &[usize]) -> Result<Option<&mut SharedFile>> {
        let own = std::process::id() as i32;
        for &i in candidates {
            let Some(other) = self.list.get(i).map(|s| s.file.duplicate.as_raw_fd()) else { continue };
            // Of the agent's duplicates: the process may close its own at any time.
            let same = kcmp::same_file(own, other, own, held.duplicate.as_raw_fd());
            if same.doing(|| "compare descriptors (kcmp)".into())? {
                return Ok(self.list.get_mut(i));
            }
        }
        Ok(None)
    }

    /// The highest descriptor.
    pub fn highest(&self) -> i32 {
        self.list.iter().flat_map(|f| f.numbers.iter().copied()).max().unwrap_or(0)
    }

    /// What can be opened at the destination while the process still runs, and the descriptors that refer to it.
    pub fn early(&mut self) -> (Vec<(ObjectId, FileImage)>, Vec<Descriptor>) {
        let (mut files, mut descriptors) = (Vec::new(), Vec::new());
        for shared in &mut self.list {
            let image = match file::capture(&shared.file) {
                Ok(image) if file::is_ahead(&image) => image,
                // It is captured again in the freeze; what is wrong with it shows there.
                _ => continue,
            };
            shared.told = Some(image.clone());
            files.push((shared.object, image));
            let close_on_exec = shared.file.view.info.flags & libc::O_CLOEXEC as u32 != 0;
            let descriptor = |&number: &i32| Descriptor { number, close_on_exec, object: shared.object };
            descriptors.extend(shared.numbers.iter().map(descriptor));
        }
        descriptors.sort_by_key(|d| d.number);
        (files, descriptors)
    }

    /// Reads them in the frozen process, which has just been looked at again.
    pub fn capture(&self, process: &mut FrozenProcess) -> Result<CapturedFiles> {
        let (mut files, mut locks) = (Vec::new(), Vec::new());
        for shared in &self.list {
            let view = &shared.file.view;
            locks.extend(record_locks::parse(view.number, &view.info).map_err(|why| Error::Refused(vec![why]))?);
            let image = file::capture(&shared.file)?;
            if shared.told.as_ref() != Some(&image) {
                files.push((shared.object, image));
            }
        }
        let mut descriptors = Vec::new();
        let mut unknown = Vec::new();
        for shared in &self.list {
            let view = &shared.file.view;
            let close_on_exec = view.info.flags & libc::O_CLOEXEC as u32 != 0;
            for &number in &shared.numbers {
                // The others of one description have it or not each for itself.
                let list = if number == view.number { &mut descriptors } else { &mut unknown };
                list.push(Descriptor { number, close_on_exec, object: shared.object });
            }
        }
        if !unknown.is_empty() {
            read_close_on_exec(&mut unknown, process)?;
            descriptors.append(&mut unknown);
        }
        descriptors.sort_unstable_by_key(|d| d.number);
        Ok(CapturedFiles { files, descriptors, locks })
    }
}

/// Reads an fdinfo that is kept open. The first time takes twice as long as those after it.
fn read_info(info: &File, pid: i32, number: i32) -> std::io::Result<FdInfo> {
    let mut text = [0; 2048];
    match info.read_at(&mut text, 0) {
        Ok(n) if n < text.len() => parse_fdinfo(&text[..n]).map_err(std::io::Error::other),
        _ => read_fdinfo(pid, number),
    }
}

fn inode(held: &HeldFile) -> (u64, u64) {
    (held.view.stat.st_dev, held.view.stat.st_ino)
}

/// FD_CLOEXEC belongs to each number, and no duplicate has it.
fn read_close_on_exec(descriptors: &mut [Descriptor], process: &mut FrozenProcess) -> Result<()> {
    for part in descriptors.chunks_mut(2000) {
        let mut batch = Batch::new();
        let asked: Vec<_> =
            part.iter().map(|d| batch.call(libc::SYS_fcntl, [d.number.into(), libc::F_GETFD.into()])).collect();
        let results = process.run(&batch)?;
        for (descriptor, ticket) in part.iter_mut().zip(asked) {
            let flags = results.value(ticket);
            let flags = flags.map_err(|e| Error::io(format!("read descriptor {}", descriptor.number), e.into()))?;
            descriptor.close_on_exec = flags & libc::FD_CLOEXEC as u64 != 0;
        }
    }
    Ok(())
}

/// Takes a duplicate, and reads what it is. None: the number came to mean another one meanwhile.
fn hold(pid: i32, pidfd: &PidFd, number: i32) -> std::io::Result<Option<(HeldFile, File)>> {
    let duplicate: OwnedFd = pidfd.get_fd(number)?;
    let stat = nix::sys::stat::fstat(&duplicate)?;
    let info = File::open(format!("/proc/{pid}/fdinfo/{number}"))?;
    let view = FileView { number, link: read_fd_link(pid, number)?, info: read_info(&info, pid, number)?, stat };
    let same = kcmp::same_file(std::process::id() as i32, duplicate.as_raw_fd(), pid, number)?;
    Ok(same.then_some((HeldFile { process: pid, view, duplicate }, info)))
}

/// A pipe that another process has open too would be cut in two. Its inode, and the reason in words.
fn pipes_held_by_others(pid: i32, pipes: &BTreeSet<u64>) -> Result<Vec<(u64, String)>> {
    let mut reasons = Vec::new();
    let listed = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        if let LinkTarget::Pipe(inode) = crate::proc::link::parse_link(link)
            && pipes.contains(&inode)
        {
            let name = fs::read_to_string(format!("/proc/{other}/comm")).unwrap_or_default();
            let reason = format!(
                "a pipe of it (pipe:[{inode}]) is held by process {other} ({}), descriptor {}, which stays; start it with its input and output from and to files",
                name.trim_end(),
                entry.file_name().to_string_lossy()
            );
            reasons.push((inode, reason));
        }
    });
    listed.doing(|| "list the processes".into())?;
    Ok(reasons)
}
