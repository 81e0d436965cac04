//! The process's open files: found and held by duplicates while it runs, and looked at again in the freeze, where only what has
//! changed since costs more than two microseconds.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

use migrate_linux::cork_probe::CorkProbe;
use migrate_linux::file_probe::FileRecord;
use migrate_linux::kcmp;
use migrate_linux::libc;
use migrate_linux::notify_probe::NotifyProbe;
use migrate_linux::pidfd::PidFd;
use migrate_linux::terminal_probe::TerminalProbe;
use nix::sys::stat::FileStat;

use super::held_files::{OpenInfo, hold, hold_duplicate};
use super::on_demand::OnDemand;
use super::outside_ends::OutsideEnds;
use super::own_files::OwnFiles;
use super::told_files::{self, Told};
use super::unix_peers::UnixPeers;
use crate::error::{Doing, Error, Result};
use crate::image::ObjectId;
use crate::in_two::both;
use crate::memory::unnamed::Unnamed;
use crate::plan::{Instead, Options};
use crate::proc::fdinfo::FdInfo;
use crate::proc::is_gone;
use crate::proc::link::{LinkTarget, read_fd_link};
use crate::proc::listing::{count_fds, read_fds};
use crate::proc::process::Process;
use crate::resources::Verdict;
use crate::resources::file::owner;
use crate::resources::file::socket::address::Bound;
use crate::resources::file::socket::options::FreshOptions;
use crate::resources::file::{self, FileImage, FileView, HeldFile};
use crate::resources::process::file_locks;

/// An open file description and the descriptors that refer to it.
#[derive(Debug)]
pub struct SharedFile {
    /// Its number in the image; it stays.
    pub object: ObjectId,
    /// It.
    pub file: HeldFile,
    /// The descriptors. None: it is inside another one.
    pub numbers: Vec<i32>,
    /// Its fdinfo, kept open: reading it again costs a fifth of opening it.
    info: OpenInfo,
    /// What the destination has made of it, or been told to.
    pub(super) told: Option<FileImage>,
    /// What the operator puts in its place.
    pub(super) instead: Option<Instead>,
    /// Why it cannot move any more.
    obstacle: Option<String>,
}

impl SharedFile {
    /// Whether it moves, and is not replaced there.
    pub fn moves(&self) -> bool {
        self.instead.is_none()
    }

    /// Its fdinfo.
    pub fn read_info(&self) -> Result<FdInfo> {
        self.info.read().doing(|| format!("look at descriptor {}", self.file.view.number))
    }

    /// Its fstat(2).
    pub fn read_stat(&self) -> Result<FileStat> {
        let stat = nix::sys::stat::fstat(&self.file.duplicate).map_err(std::io::Error::from);
        stat.doing(|| format!("stat descriptor {}", self.file.view.number))
    }

    /// Takes in what fstat(2) shows. Who renames, links or unlinks a file stamps it: then its name is asked for again.
    fn is_now(&mut self, stat: FileStat) -> Result<()> {
        let HeldFile { view, duplicate, .. } = &mut self.file;
        let stamp = |stat: &FileStat| (stat.st_ctime, stat.st_ctime_nsec);
        let before = std::mem::replace(&mut view.stat, stat);
        if self.instead.is_some() || stamp(&before) == stamp(&stat) || !matches!(view.link, LinkTarget::Path { .. }) {
            return Ok(());
        }
        let link = read_fd_link(std::process::id() as i32, duplicate.as_raw_fd());
        let link = link.doing(|| format!("look at descriptor {}", view.number))?;
        if link == view.link && before.st_nlink == stat.st_nlink {
            return Ok(());
        }
        view.link = link;
        self.obstacle = match file::preflight(view) {
            Verdict::Unsupported(why) => Some(why),
            _ => None,
        };
        Ok(())
    }
}

/// Descriptions on one inode, by their places in the list: those from an earlier look, and new ones in the kernel's order.
#[derive(Default)]
struct Alike {
    known: Vec<usize>,
    new: Vec<usize>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// In no order.
    pub list: Vec<SharedFile>,
    next_object: u32,
    outside: OutsideEnds,
    unix: UnixPeers,
    /// What the options of sockets are that nobody has set.
    pub(super) fresh: FreshOptions,
    /// What the operator puts in the place of these numbers, and the owner of files that are made for that.
    fds: BTreeMap<i32, Instead>,
    pub(super) owner: (u32, u32),
    /// The first look is over.
    looked: bool,
    /// What tells of many at once, if there are many.
    pub(super) told: Option<Told>,
    /// What tells of what is in terminals, if there are any.
    pub(super) terminals: Option<TerminalProbe>,
    /// What tells what is signalled of directories, if there are any of which something is.
    pub(super) notified: OnDemand<NotifyProbe>,
    /// What tells what sockets hold back, if any may.
    pub(super) corked: OnDemand<CorkProbe>,
    /// What tells of duplicates what nothing else does.
    pub(super) own: OwnFiles,
}

/// What a look at the open files showed, beside them.
#[derive(Debug, Default)]
pub struct Findings {
    /// What cannot move.
    pub obstacles: Vec<String>,
    /// What is lost.
    pub losses: Vec<String>,
}

impl OpenFiles {
    /// None yet. Of the options: what the operator puts in the place of some, with files made for that belonging to `owner`, user and
    /// group, and whether probes may be loaded.
    pub fn new(options: &Options, owner: (u32, u32)) -> OpenFiles {
        let choice = options.kernel_state;
        let (notified, corked, own) = (OnDemand::new(choice), OnDemand::new(choice), OwnFiles::new(choice));
        OpenFiles { fds: options.fds.clone(), owner, notified, corked, own, ..OpenFiles::default() }
    }

    /// Looks at the descriptor table: what is known and still the same is kept, the rest is held and examined. While the process
    /// runs, what changes meanwhile is left to the next look.
    pub fn look(&mut self, process: Process, pidfd: &PidFd) -> Result<Findings> {
        self.look_at(process, pidfd, false)
    }

    fn look_at(&mut self, process: Process, pidfd: &PidFd, still: bool) -> Result<Findings> {
        let mut findings = Findings::default();
        let pid = process.pid;
        let numbers = read_fds(process.alive).doing(|| format!("list the descriptors of {pid}"))?;
        let new = self.keep_known(process, &numbers)?;
        let stats = self.read_stats()?;
        // Descriptors of one description are on one inode; only those need comparing.
        let mut by_inode: BTreeMap<(u64, u64), Alike> = BTreeMap::new();
        if !new.is_empty() {
            for (i, shared) in self.list.iter().enumerate().filter(|(_, shared)| shared.moves()) {
                by_inode.entry(shared.file.inode()).or_default().known.push(i);
            }
        }
        for number in new {
            let (held, info) = match hold(process, pidfd, number) {
                Ok(Some(held)) => held,
                // It has been closed since it was listed, or is another one by now: a later look finds that.
                Ok(None) => continue,
                Err(e) if is_gone(&e) || e.raw_os_error() == Some(libc::EBADF) => continue,
                Err(e) => return Err(Error::io(format!("look at descriptor {number} of {pid}"), e)),
            };
            if let Some(instead) = self.fds.get(&number).cloned() {
                match self.looked {
                    false => self.take_in(held, info, vec![number], Some(instead)),
                    true => findings
                        .obstacles
                        .push(format!("fd {number}: it is no longer what it was when --fd was given for it")),
                }
                continue;
            }
            let alike = by_inode.entry(held.inode()).or_default();
            if let Some(i) = self.same_description(&held.duplicate, &alike.known)? {
                self.list[i].numbers.push(number);
                continue;
            }
            match self.place_of(&held.duplicate, &alike.new)? {
                Ok(place) => self.list[alike.new[place]].numbers.push(number),
                Err(place) => {
                    if self.examine(held, info, vec![number], still, &mut findings) {
                        alike.new.insert(place, self.list.len() - 1);
                    }
                }
            }
        }
        for (shared, stat) in self.list.iter_mut().zip(stats) {
            shared.is_now(stat)?;
        }
        self.unix.ask(&mut self.list, still)?;
        if self.look_inside(still, &mut findings)? {
            self.unix.ask(&mut self.list, still)?;
        }
        self.own.ask_semaphores(&mut self.list, still, &mut findings)?;
        self.tell_obstacles(&mut findings);
        self.name_by_first_numbers(process)?;
        self.unix.connect(pid, &mut self.list, still, &mut findings)?;
        self.outside.look(pid, &self.list, &mut findings)?;
        if !still {
            findings.obstacles.extend(self.look_at_corked());
        }
        if !std::mem::replace(&mut self.looked, true) {
            let missing = self.fds.keys().filter(|number| numbers.binary_search(number).is_err());
            findings.obstacles.extend(missing.map(|number| format!("--fd {number}: it has no descriptor {number}")));
        }
        Ok(findings)
    }

    /// Takes one in if it can move.
    fn examine(
        &mut self,
        held: HeldFile,
        info: OpenInfo,
        numbers: Vec<i32>,
        still: bool,
        findings: &mut Findings,
    ) -> bool {
        let asks: [&dyn Fn() -> Result<Verdict>; 2] = [&|| Ok(file::preflight(&held.view)), &|| file::examine(&held)];
        for ask in asks {
            match ask() {
                Ok(Verdict::Supported) => {}
                Ok(Verdict::With(loss)) => findings.losses.push(loss),
                Ok(Verdict::Unsupported(why)) => {
                    findings.obstacles.push(why);
                    return false;
                }
                Err(error) => {
                    findings.obstacles.push(format!("fd {}: {error}", held.view.number));
                    return false;
                }
            }
        }
        findings.obstacles.extend(file_locks::parse(held.view.number, &held.view.info).err());
        findings.obstacles.extend(owner::obstacle(&held));
        if owner::notifies(&held)
            && let Err(why) = self.want_notified(held.process, still)
        {
            findings.obstacles.push(owner::untold(held.view.number, why));
        }
        findings.losses.extend(self.own.ask_owner(&held, still));
        self.take_in(held, info, numbers, None);
        true
    }

    fn take_in(&mut self, file: HeldFile, info: OpenInfo, numbers: Vec<i32>, instead: Option<Instead>) {
        let object = ObjectId(self.next_object);
        self.next_object += 1;
        self.list.push(SharedFile { object, file, numbers, info, told: None, instead, obstacle: None });
    }

    /// Looks for descriptions that are inside others, and drops those that are nowhere any more. Whether there were any: only then they are
    /// closed, and their other ends are told.
    fn look_inside(&mut self, still: bool, findings: &mut Findings) -> Result<bool> {
        let mut found: Vec<bool> = self.list.iter().map(|shared| !shared.numbers.is_empty()).collect();
        let mut to_do: Vec<usize> = (0..found.len()).filter(|i| found[*i]).collect();
        while let Some(i) = to_do.pop() {
            for duplicate in holds(&self.list[i])? {
                let number = self.list[i].file.view.number;
                let (mut held, info) = hold_duplicate(self.list[i].file.process, number, duplicate)
                    .doing(|| format!("look at what is inside descriptor {number}"))?;
                self.unix.note(&mut held, still);
                let same_inode =
                    |(_, shared): &(usize, &SharedFile)| shared.moves() && shared.file.inode() == held.inode();
                let candidates: Vec<usize> = self.list.iter().enumerate().filter(same_inode).map(|(i, _)| i).collect();
                let known = match self.same_description(&held.duplicate, &candidates)? {
                    Some(known) => known,
                    None if self.examine(held, info, Vec::new(), still, findings) => self.list.len() - 1,
                    None => continue,
                };
                found.resize(self.list.len(), false);
                if !std::mem::replace(&mut found[known], true) {
                    to_do.push(known);
                }
            }
        }
        let before = self.list.len();
        let mut found = found.into_iter();
        self.list.retain(|_| found.next() == Some(true));
        Ok(self.list.len() < before)
    }

    /// The same in the frozen process, of which it also reads what the descriptions are now. Nearly always no number has come, gone or
    /// become another description.
    pub fn look_again(&mut self, process: Process, pidfd: &PidFd) -> Result<Findings> {
        let pid = process.pid;
        let known = self.known();
        let same = match self.told.as_ref().and_then(|told| told.read(&self.list, &known)) {
            Some(records) => self.take_in_told(&records)?,
            None => self.take_in_asked(process, &known)?,
        };
        let mut findings = Findings::default();
        if same {
            self.outside.look_again(pid, &self.list, &mut findings)?;
            self.unix.connect(pid, &mut self.list, true, &mut findings)?;
        } else {
            findings = self.look_at(process, pidfd, true)?;
            let (infos, stats) = (self.read_infos()?, self.read_stats()?);
            self.take_in_now(infos, stats)?;
        }
        self.tell_obstacles(&mut findings);
        self.outside.look_for_locks(pid, &self.list, &mut findings)?;
        Ok(findings)
    }

    /// Takes in what has been told of them all, none of which has come or gone. Whether nothing else has either.
    fn take_in_told(&mut self, records: &[FileRecord]) -> Result<bool> {
        self.unix.ask(&mut self.list, true)?;
        if !self.holds_nothing()? {
            return Ok(false);
        }
        for shared in &mut self.list {
            let stat = told_files::take_in(shared, records)?;
            shared.is_now(stat)?;
        }
        Ok(true)
    }

    /// Takes in what each of them is now. Whether all are still what they were, and there are no others.
    ///
    /// All that is to be asked is asked at once, and that by two OS threads. Each asks something else, because two that ask the same wait
    /// for the same locks in the kernel.
    fn take_in_asked(&mut self, process: Process, known: &[(i32, usize)]) -> Result<bool> {
        // As many as are known, and all of those still there: then there are no others.
        if count_fds(process.alive).doing(|| format!("count the descriptors of {process}"))? != Some(known.len()) {
            return Ok(false);
        }
        let compare = || Ok::<_, Error>((self.compare(process, known)?, self.read_stats()?));
        let (compared, infos) = both(known.len(), compare, || self.read_infos())?;
        let (same, stats) = compared?;
        self.unix.ask(&mut self.list, true)?;
        if same.iter().any(|same| *same != Some(true)) || !self.holds_nothing()? {
            return Ok(false);
        }
        self.take_in_now(infos?, stats)?;
        Ok(true)
    }

    /// Takes in what each shows.
    fn take_in_now(&mut self, infos: Vec<FdInfo>, stats: Vec<FileStat>) -> Result<()> {
        for (shared, (info, stat)) in self.list.iter_mut().zip(infos.into_iter().zip(stats)) {
            (shared.file.view.info, shared.file.view.unowned) = (info, false);
            shared.is_now(stat)?;
        }
        Ok(())
    }

    /// The fdinfo of each description, and who has locked it. (/proc/locks would be one read for all, and waits ten milliseconds for an
    /// RCU grace period.)
    fn read_infos(&self) -> Result<Vec<FdInfo>> {
        self.list.iter().map(SharedFile::read_info).collect()
    }

    /// Whether none is inside another one, as far as can be told.
    fn holds_nothing(&self) -> Result<bool> {
        for shared in &self.list {
            if shared.numbers.is_empty() || !holds(shared)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The fstat(2) of each.
    fn read_stats(&self) -> Result<Vec<FileStat>> {
        self.list.iter().map(SharedFile::read_stat).collect()
    }

    /// The numbers, ascending, and which of the descriptions each is.
    pub(super) fn known(&self) -> Vec<(i32, usize)> {
        let mut known = Vec::with_capacity(self.list.len());
        for (i, shared) in self.list.iter().enumerate() {
            known.extend(shared.numbers.iter().map(|&number| (number, i)));
        }
        known.sort_unstable();
        known
    }

    /// Whether each of these numbers is still the description that it was. None: it has been closed.
    fn compare(&self, process: Process, known: &[(i32, usize)]) -> Result<Vec<Option<bool>>> {
        let own = std::process::id() as i32;
        let same = |&(number, i): &(i32, usize)| {
            let duplicate = self.list[i].file.duplicate.as_raw_fd();
            match kcmp::same_file(own, duplicate, process.alive, number) {
                Ok(same) => Ok(Some(same)),
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
                Err(e) => Err(Error::io("compare descriptors (kcmp)".into(), e)),
            }
        };
        known.iter().map(same).collect()
    }

    /// Drops what is no longer there, and returns the numbers that are not known.
    fn keep_known(&mut self, process: Process, numbers: &[i32]) -> Result<Vec<i32>> {
        let mut known = self.known();
        let is_known = |number: &i32| known.binary_search_by_key(number, |(number, _)| *number).is_ok();
        let mut new: Vec<i32> = numbers.iter().copied().filter(|number| !is_known(number)).collect();
        known.retain(|(number, _)| numbers.binary_search(number).is_ok());
        let same = self.compare(process, &known)?;
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
        Ok(new)
    }

    /// Each is named by the first of its numbers.
    fn name_by_first_numbers(&mut self, process: Process) -> Result<()> {
        for shared in &mut self.list {
            if let Some(&first) = shared.numbers.first()
                && (first, process.alive) != (shared.info.number, shared.info.process)
            {
                match OpenInfo::open(process.alive, first) {
                    Ok(info) => (shared.file.view.number, shared.info) = (first, info),
                    // Closed since it was listed: a later look finds that.
                    Err(e) if is_gone(&e) => {}
                    Err(e) => return Err(Error::io(format!("look at descriptor {first}"), e)),
                }
            }
        }
        Ok(())
    }

    fn tell_obstacles(&self, findings: &mut Findings) {
        for why in self.list.iter().filter_map(|shared| shared.obstacle.as_ref()) {
            if !findings.obstacles.contains(why) {
                findings.obstacles.push(why.clone());
            }
        }
    }

    /// Why leases cannot move. `one_machine`: source and destination are.
    pub fn lease_obstacles(&self, one_machine: bool) -> Vec<String> {
        let views = self.list.iter().filter(|shared| shared.moves()).map(|shared| &shared.file.view);
        let obstacle =
            |view: &FileView| file_locks::lease_obstacle(view.number, &view.info, file::is_unnamed(view), one_machine);
        views.filter_map(obstacle).collect()
    }

    /// Takes in the files without a name: their content travels with the pages. Returns what cannot move.
    pub fn find_content(&mut self, unnamed: &mut Unnamed) -> Vec<String> {
        unnamed.forget_open();
        let mut obstacles = Vec::new();
        for shared in self.list.iter_mut().filter(|shared| shared.moves() && file::is_unnamed(&shared.file.view)) {
            match unnamed.add_open(&shared.file) {
                Ok(object) => shared.file.content = Some(object),
                Err(why) => obstacles.push(why),
            }
        }
        obstacles
    }

    /// The one of the candidates that this is a duplicate of.
    fn same_description(&self, duplicate: &OwnedFd, candidates: &[usize]) -> Result<Option<usize>> {
        let own = std::process::id() as i32;
        for &i in candidates {
            let Some(other) = self.list.get(i).map(|s| s.file.duplicate.as_raw_fd()) else { continue };
            // Of the agent's duplicates: the process may close its own at any time.
            let same = kcmp::same_file(own, other, own, duplicate.as_raw_fd());
            if same.doing(|| "compare descriptors (kcmp)".into())? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// The place of what this is a duplicate of among some in the kernel's order. Err: where it belongs.
    fn place_of(&self, duplicate: &OwnedFd, in_order: &[usize]) -> Result<std::result::Result<usize, usize>> {
        let own = std::process::id() as i32;
        let mut failure = None;
        let place = in_order.binary_search_by(|&i| {
            let order = kcmp::file_order(own, self.list[i].file.duplicate.as_raw_fd(), own, duplicate.as_raw_fd());
            order.unwrap_or_else(|error| {
                failure = Some(error);
                Ordering::Equal
            })
        });
        failure.map_or(Ok(place), |error| Err(Error::io("compare descriptors (kcmp)".into(), error)))
    }

    /// How many descriptors there are.
    pub fn count(&self) -> usize {
        self.list.iter().map(|shared| shared.numbers.len()).sum()
    }

    /// The highest descriptor.
    pub fn highest(&self) -> i32 {
        self.list.iter().flat_map(|f| f.numbers.iter().copied()).max().unwrap_or(0)
    }

    /// What takes addresses and ports, as they are now.
    pub fn addresses(&self) -> Result<Vec<Bound>> {
        let moving = self.list.iter().filter(|shared| shared.moves());
        moving.filter_map(|shared| file::address(&shared.file, &self.fresh).transpose()).collect()
    }
}

/// Duplicates of the descriptions inside one that moves.
fn holds(shared: &SharedFile) -> Result<Vec<OwnedFd>> {
    if shared.moves() { file::holds(&shared.file) } else { Ok(Vec::new()) }
}
