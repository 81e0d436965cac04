//! What of descriptions is told only by a probe of this agent's duplicates of them: before Linux 6.5 whether an eventfd is a semaphore.

use std::os::fd::AsRawFd;

use migrate_linux::file_probe::{FileRecord, OwnFileProbe};

use super::on_demand::OnDemand;
use super::open_files::{Findings, SharedFile};
use crate::error::Result;
use crate::plan::KernelStateChoice;
use crate::resources::file::{HeldFile, is_untold_eventfd};

/// The probe, if anything has needed it.
#[derive(Debug, Default)]
pub struct OwnFiles {
    probe: OnDemand<OwnFileProbe>,
}

impl OwnFiles {
    /// None yet.
    pub fn new(choice: KernelStateChoice) -> OwnFiles {
        OwnFiles { probe: OnDemand::new(choice) }
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
        let told = match self.probe.want(OwnFileProbe::load) {
            Ok(probe) => Ok(probe.read()?),
            Err(why) => Err(why),
        };
        for shared in &mut untold {
            let HeldFile { view, duplicate, .. } = &mut shared.file;
            let semaphore = match &told {
                Ok(told) => told.get(&duplicate.as_raw_fd()).map(FileRecord::is_semaphore).ok_or("it is not told of"),
                Err(why) => Err(*why),
            };
            view.semaphore = Some(semaphore.unwrap_or_else(|why| {
                findings.losses.push(format!(
                    "fd {}: neither this kernel (Linux 6.5 does) nor a probe tells whether an eventfd is a semaphore; it is taken for none: {why}",
                    view.number
                ));
                false
            }));
        }
        Ok(())
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
            assert!(found.losses[0].contains("it is taken for none: --kernel-state leaves it out"), "{found:?}");
            let (told, found) = ask(KernelStateChoice::Auto, true, kind);
            assert_eq!((told, found.losses.len(), found.obstacles.len()), (None, 0, 1), "{found:?}");
            assert!(found.obstacles[0].ends_with("try again"), "{found:?}");
        }
    }
}
