//! What of descriptions is told only by a probe of this agent's duplicates of them: before Linux 6.5 whether an eventfd is a semaphore, and
//! on all a process that gets signals about one by the ID of a thread that is not its first.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};

use migrate_linux::file_probe::{FileRecord, OwnFileProbe};

use super::on_demand::OnDemand;
use super::open_files::{Findings, SharedFile};
use crate::error::{Error, Result};
use crate::plan::KernelStateChoice;
use crate::resources::file::{self, HeldFile, is_untold_eventfd, owner};

/// The probe, if anything has needed it.
#[derive(Debug, Default)]
pub struct OwnFiles {
    probe: OnDemand<OwnFileProbe>,
    /// It has been said that owners may be lost.
    said: bool,
}

/// What it tells in the freeze, read when it is needed first.
pub struct Reading<'p> {
    of: &'p OwnFiles,
    records: OnceCell<HashMap<RawFd, FileRecord>>,
}

impl OwnFiles {
    /// None yet.
    pub fn new(choice: KernelStateChoice) -> OwnFiles {
        OwnFiles { probe: OnDemand::new(choice), said: false }
    }

    /// Asks of each eventfd that is not known yet whether it is a semaphore: it stays what it is. `still`: there is no time to load a probe.
    pub fn ask_semaphores(&mut self, list: &mut [SharedFile], still: bool, findings: &mut Findings) -> Result<()> {
        let untold = |shared: &&mut SharedFile| shared.moves() && is_untold_eventfd(&shared.file.view);
        let mut untold: Vec<&mut SharedFile> = list.iter_mut().filter(untold).collect();
        let Some(first) = untold.first() else { return Ok(()) };
        if still && self.probe.is_unknown() {
            let number = first.file.view.number;
            findings.obstacles.push(format!(
                "fd {number}: an eventfd that it has only just made, and this kernel does not tell whether it is a semaphore (Linux 6.5 does); try again"
            ));
            return Ok(());
        }
        let (told, why) = match self.probe.want(OwnFileProbe::load) {
            Ok(probe) => (probe.read()?, "it does not know it"),
            Err(why) => (HashMap::new(), why),
        };
        let mut taken_for_none = Vec::new();
        for shared in &mut untold {
            let HeldFile { view, duplicate, .. } = &mut shared.file;
            view.semaphore =
                Some(told.get(&duplicate.as_raw_fd()).map(FileRecord::is_semaphore).unwrap_or_else(|| {
                    taken_for_none.push(view.number);
                    false
                }));
        }
        if !taken_for_none.is_empty() {
            findings.losses.push(format!(
                "fd {}: this kernel does not tell whether an eventfd is a semaphore (Linux 6.5 does), nor does a probe: {why}; taken for none",
                file::listed(&taken_for_none)
            ));
        }
        Ok(())
    }

    /// Has it told in the freeze who gets signals about this one, if that may be hidden. Returns what is lost where that cannot be.
    pub fn ask_owner(&mut self, held: &HeldFile, still: bool) -> Option<String> {
        if !owner::may_be_hidden(held) || (still && self.probe.is_unknown()) {
            return None;
        }
        let why = self.probe.want(OwnFileProbe::load).err()?;
        self.said = true;
        Some(format!(
            "fd {}: it may be that the process gets signals about it by the ID of a thread that is not its first (F_SETOWN); only an eBPF probe tells, and there is none: {why}; then it gets none any more",
            held.view.number
        ))
    }

    /// To read it in the freeze.
    pub fn reading(&self) -> Reading<'_> {
        Reading { of: self, records: OnceCell::new() }
    }
}

impl Reading<'_> {
    /// The thread whose process gets signals about this one, which may be hidden. None: there is none, or, as has been said, nothing tells.
    pub fn owner(&self, held: &HeldFile) -> Result<Option<i32>> {
        let Ok(probe) = self.of.probe.get() else {
            return if self.of.said {
                Ok(None)
            } else {
                Err(Error::Refused(vec![owner::set_just_now(held.view.number)]))
            };
        };
        let records = match self.records.get() {
            Some(records) => records,
            None => {
                let read = probe.read()?;
                self.records.get_or_init(|| read)
            }
        };
        Ok(records.get(&held.duplicate.as_raw_fd()).and_then(FileRecord::owned_by))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use migrate_linux::pidfd::PidFd;
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::super::open_files::OpenFiles;
    use super::*;
    use crate::plan::Options;
    use crate::proc::process::Process;

    /// Of an eventfd of this process, as a kernel shows it that does not tell whether it is a semaphore: what has been found out, and found.
    fn ask(choice: KernelStateChoice, still: bool, kind: EfdFlags) -> (Option<bool>, Findings) {
        let event = OwnedFd::from(EventFd::from_flags(kind).unwrap());
        let own = std::process::id() as i32;
        let mut files = OpenFiles::new(&Options::default(), (0, 0));
        files.look(Process::of(own).unwrap(), &PidFd::open(own).unwrap()).unwrap();
        files.list.retain(|shared| shared.numbers.contains(&event.as_raw_fd()));
        let [shared] = &mut files.list[..] else { panic!("{:?}", files.list) };
        shared.file.view.info.extra.retain(|(key, _)| key != b"eventfd-semaphore");
        shared.file.view.semaphore = None;
        let (mut asked, mut findings) = (OwnFiles::new(choice), Findings::default());
        asked.ask_semaphores(&mut files.list, still, &mut findings).unwrap();
        (files.list[0].file.view.semaphore, findings)
    }

    #[test]
    fn whether_an_eventfd_is_a_semaphore_is_asked_warned_of_or_refused() {
        for kind in [EfdFlags::EFD_SEMAPHORE, EfdFlags::empty()] {
            let (told, found) = ask(KernelStateChoice::Auto, false, kind);
            match found.losses.is_empty() {
                true => assert_eq!(told, Some(kind == EfdFlags::EFD_SEMAPHORE)),
                false => println!("SKIPPED the probe for own descriptors: {:?}", found.losses),
            }
            let (told, found) = ask(KernelStateChoice::Ptrace, false, kind);
            assert_eq!((told, found.losses.len(), found.obstacles.len()), (Some(false), 1, 0), "{found:?}");
            assert!(
                found.losses[0].contains("nor does a probe: --kernel-state leaves it out; taken for none"),
                "{found:?}"
            );
            let (told, found) = ask(KernelStateChoice::Auto, true, kind);
            assert_eq!((told, found.losses.len(), found.obstacles.len()), (None, 0, 1), "{found:?}");
            assert!(found.obstacles[0].ends_with("try again"), "{found:?}");
        }
    }
}
