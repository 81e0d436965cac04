//! What many open files are in the freeze, told by a probe of all descriptors at once; and the probes for terminals and for semaphores. They
//! are loaded while the memory is copied; the probes for what is signalled of directories, and for what sockets hold back, before, where it
//! is known that something is, which cannot move without them.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use migrate_linux::cork_probe::CorkProbe;
use migrate_linux::error::Error as LinuxError;
use migrate_linux::file_probe::{FileProbe, FileRecord};
use migrate_linux::notify_probe::{NotifyProbe, NotifyRecord};
use migrate_linux::terminal_probe::{TerminalProbe, TerminalRecord};
use migrate_linux::undo_probe::UndoProbe;

use nix::sys::stat::FileStat;

use super::open_files::{OpenFiles, SharedFile};
use crate::error::{Error, Result};
use crate::image::ObjectId;
use crate::plan::KernelStateChoice;
use crate::proc::fdinfo::FdInfo;
use crate::proc::process::Process;
use crate::resources::file::socket::corked;
use crate::resources::file::{self, owner};

/// With fewer descriptors than this, loading the probe costs more than it saves.
const MANY: usize = 256;

/// A probe, being loaded; or none.
#[derive(Debug)]
pub struct Loading<P>(Option<JoinHandle<std::result::Result<P, LinuxError>>>);

/// The probe for open files, if it is worth while.
pub fn begin_files(choice: KernelStateChoice, process: Process, descriptors: usize) -> Loading<FileProbe> {
    Loading::begin(choice, descriptors >= MANY, move || FileProbe::load(process.pid, process.alive))
}

/// The probe for terminals, if there are any.
pub fn begin_terminals(choice: KernelStateChoice, process: Process, any: bool) -> Loading<TerminalProbe> {
    let choice = if any { choice } else { KernelStateChoice::Ptrace };
    Loading::begin(choice, any, move || TerminalProbe::load(process.pid, process.alive))
}

/// The probe for what is signalled of directories, if there are any of which something may be.
pub fn begin_notified(choice: KernelStateChoice, process: Process, any: bool) -> Loading<NotifyProbe> {
    let choice = if any { choice } else { KernelStateChoice::Ptrace };
    Loading::begin(choice, any, move || NotifyProbe::load(process.pid, process.alive))
}

/// The probe for what is undone to semaphores.
pub fn begin_undo(choice: KernelStateChoice, pid: i32) -> Loading<UndoProbe> {
    Loading::begin(choice, true, move || UndoProbe::load(pid))
}

impl<P: Send + 'static> Loading<P> {
    fn begin(
        choice: KernelStateChoice,
        worth_while: bool,
        load: impl FnOnce() -> std::result::Result<P, LinuxError> + Send + 'static,
    ) -> Loading<P> {
        let begin = || std::thread::Builder::new().name("probe".into()).spawn(load).ok();
        let wanted = match choice {
            KernelStateChoice::Auto => worth_while,
            KernelStateChoice::Ebpf => true,
            KernelStateChoice::Kmod | KernelStateChoice::Ptrace => false,
        };
        Loading(wanted.then(begin).flatten())
    }

    /// Waits until it is loaded. None: what it would tell is asked for one by one, or not known.
    pub fn finish(self) -> Option<P> {
        self.finish_or_why().inspect_err(|why| tracing::debug!("{why}; it is done without")).ok()
    }

    /// The same with why there is none.
    pub fn finish_or_why(self) -> std::result::Result<P, String> {
        let loading = self.0.ok_or("the probes are not wanted (--kernel-state)")?;
        let loaded = loading.join().map_err(|_| "loading the probe failed")?;
        loaded.map_err(|why| why.to_string())
    }
}

/// The probe, and which description each known file is.
#[derive(Debug)]
pub struct Told {
    probe: FileProbe,
    /// By the kernel's name for it, which is its own as long as this agent has a duplicate.
    descriptions: HashMap<ObjectId, u64>,
}

impl Told {
    /// For these files, by this agent's duplicates of them.
    pub fn new(probe: FileProbe, list: &[SharedFile]) -> Result<Told> {
        let own = probe.own_descriptions()?;
        let described = |shared: &SharedFile| Some((shared.object, *own.get(&shared.file.duplicate.as_raw_fd())?));
        let descriptions = list.iter().filter_map(described).collect();
        Ok(Told { probe, descriptions })
    }

    /// What each of these descriptors is now, in their order. None: one of them has become another one, or there are others.
    pub fn read(&self, list: &[SharedFile], known: &[(i32, usize)]) -> Option<Vec<FileRecord>> {
        let records = self.probe.read().inspect_err(|why| tracing::debug!("{why}")).ok()?;
        let is_known = |(record, (number, i)): (&FileRecord, &(i32, usize))| {
            let shared = list.get(*i);
            record.number == *number
                && shared.and_then(|shared| self.descriptions.get(&shared.object)) == Some(&record.description)
        };
        (records.len() == known.len() && records.iter().zip(known).all(is_known)).then_some(records)
    }
}

/// Takes in what is told of the first of a file's numbers, instead of its fdinfo. Returns what fstat(2) shows. `records`: as
/// [`Told::read`] returns them.
pub fn take_in(shared: &mut SharedFile, records: &[FileRecord]) -> Result<FileStat> {
    let number = shared.file.view.number;
    let record = records.binary_search_by_key(&number, |record| record.number).ok().and_then(|i| records.get(i));
    let record = record.ok_or_else(|| Error::Invalid(format!("nothing is told of descriptor {number}")))?;
    let FdInfo { mnt_id, ino, .. } = shared.file.view.info;
    let info = match record.shows_more() {
        true => shared.read_info()?,
        false => FdInfo { pos: record.pos, flags: record.flags(), mnt_id, ino, extra: Vec::new() },
    };
    (shared.file.view.info, shared.file.view.unowned) = (info, !record.has_owner());
    let Some(told) = record.stat() else { return shared.read_stat() };
    let mut stat = shared.file.view.stat;
    (stat.st_nlink, stat.st_size) = (told.links.into(), told.size);
    (stat.st_mtime, stat.st_mtime_nsec) = told.mtime;
    (stat.st_ctime, stat.st_ctime_nsec) = told.ctime;
    Ok(stat)
}

/// How long what was written at one end of a terminal may be on its way to the other.
const TERMINALS_SETTLE: Duration = Duration::from_millis(2);

impl OpenFiles {
    /// Has this probe tell, in the freeze, of those that are known by now.
    pub fn tell_by(&mut self, probe: FileProbe) {
        self.told = Told::new(probe, &self.list).inspect_err(|why| tracing::debug!("{why}")).ok();
    }

    /// Whether there are any pseudo terminals.
    pub fn has_terminals(&self) -> bool {
        self.ends_of_terminals().next().is_some()
    }

    fn ends_of_terminals(&self) -> impl Iterator<Item = &SharedFile> {
        self.list.iter().filter(|shared| shared.moves() && file::terminal_of(&shared.file).is_some())
    }

    /// Has this probe tell, in the freeze, what is in the terminals. Returns what is lost where there is none.
    pub fn tell_terminals_by(&mut self, probe: Option<TerminalProbe>) -> Vec<String> {
        self.terminals = probe;
        match &self.terminals {
            Some(_) => Vec::new(),
            None => self.ends_of_terminals().filter_map(|shared| file::loss_without_probe(&shared.file)).collect(),
        }
    }

    /// Whether there are directories of which it is not known whether something is signalled.
    pub fn may_notify(&self) -> bool {
        let may = |shared: &SharedFile| shared.moves() && owner::may_notify(&shared.file.view);
        self.notified.is_unknown() && self.list.iter().any(may)
    }

    /// Has it told, in the freeze, what is signalled of directories: of one something is. Err: why nothing tells, in words. `still`: there is
    /// no time to load a probe.
    pub(super) fn want_notified(&mut self, process: Process, still: bool) -> std::result::Result<(), &str> {
        self.notified.want_in_time(still, || NotifyProbe::load(process.pid, process.alive)).map(|_| ())
    }

    /// What is signalled of each directory now. None: nothing tells.
    pub(super) fn read_notified(&self) -> Result<Option<Vec<NotifyRecord>>> {
        Ok(self.notified.get().ok().map(NotifyProbe::read).transpose()?)
    }

    /// Has this probe tell, in the freeze, what is signalled of directories.
    pub fn tell_notified_by(&mut self, probe: Option<NotifyProbe>) {
        probe.into_iter().for_each(|probe| self.notified.tell_by(probe));
    }

    /// Has a probe be there for what sockets hold back, if any seems to hold back something. Returns why what it tells of cannot move; why
    /// there is none is said where it is needed.
    pub(super) fn look_at_corked(&mut self) -> Vec<String> {
        let moving = || self.list.iter().filter(|shared| shared.moves()).map(|shared| &shared.file);
        if self.corked.is_unknown() && moving().any(corked::may_hold_back) {
            let _ = self.corked.want(CorkProbe::load);
        }
        let Ok(probe) = self.corked.get() else { return Vec::new() };
        moving().filter_map(|file| corked::obstacle(file, probe)).collect()
    }

    /// What is in the terminals of the frozen process. None: nothing tells.
    pub(super) fn read_terminals(&self) -> Result<Option<Vec<TerminalRecord>>> {
        let Some(probe) = self.terminals.as_ref().filter(|_| self.has_terminals()) else { return Ok(None) };
        let began = Instant::now();
        loop {
            self.ends_of_terminals().try_for_each(|shared| file::settle_terminal(&shared.file))?;
            let records = probe.read()?;
            // Where something is to be read already, nothing waits for what is still on its way: the kernel's worker brings it soon.
            let whole = records.iter().all(|record| record.to_master.whole && record.to_slave.whole);
            if whole || began.elapsed() > TERMINALS_SETTLE {
                return Ok(Some(records));
            }
            std::thread::yield_now();
        }
    }
}
