//! System V semaphores and message queues of a new process: their IDs and keys are taken while the original still runs, with nobody
//! allowed to use them; what they are comes when it stands.

use std::collections::HashMap;

use migrate_linux::sysv_ipc::Kind;

use super::shell::Shell;
use crate::error::{Doing, Error, Result};
use crate::image::Offer;
use crate::image::sysv_ipc::{Announced, Images};
use crate::resources::process::sysv_ipc::{Made, NewObject, name, taken};

/// More than Linux has of one kind in a namespace by default.
const LIMIT: usize = 32768;

/// Those that have been made. Dropped, they are removed.
#[derive(Debug, Default)]
pub struct NewObjects(HashMap<(Kind, i32), NewObject>);

/// Why those of an offer cannot be here.
pub fn obstacles(offer: &Offer) -> Vec<String> {
    let sets = offer.sysv.sets.iter().map(|(made, _)| (Kind::Semaphores, made));
    let all: Vec<(Kind, &Made)> = sets.chain(offer.sysv.queues.iter().map(|made| (Kind::Messages, made))).collect();
    let here = Announced::of_this_namespace().namespace;
    let same = here != 0 && here == offer.sysv.namespace && offer.boot_id == crate::phases::boot_id();
    if let Some((kind, made)) = all.first().filter(|_| same) {
        let name = name(*kind, made.id, made.key);
        return vec![format!(
            "{name}: source and destination are in one IPC namespace, which cannot have it twice; give one of them another (unshare --ipc)"
        )];
    }
    all.into_iter().filter_map(|(kind, made)| taken(kind, made)).collect()
}

impl NewObjects {
    /// Makes them, empty.
    pub fn make(&mut self, announced: &Announced, shell: &mut Shell) -> Result<()> {
        for (made, count) in &announced.sets {
            self.add(Kind::Semaphores, *made, u64::from(*count), shell)?;
        }
        announced.queues.iter().try_for_each(|made| self.add(Kind::Messages, *made, 0, shell))
    }

    fn add(&mut self, kind: Kind, made: Made, size: u64, shell: &mut Shell) -> Result<()> {
        if self.0.len() > LIMIT || self.0.contains_key(&(kind, made.id)) {
            return Err(Error::Invalid("the list of semaphores and message queues makes no sense".into()));
        }
        let new = NewObject::make(kind, made, size, |batch| shell.run(batch))?;
        self.0.insert((kind, made.id), new);
        Ok(())
    }

    /// Makes them what they are; those that have gone meanwhile go. Returns those that are left.
    pub fn restore(mut self, images: &Images, shell: &mut Shell) -> Result<NewObjects> {
        let mut kept = NewObjects::default();
        let reasons = images.queues.iter().map(|queue| queue.too_long()).collect::<Result<Vec<_>>>()?;
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        if !reasons.is_empty() {
            return Err(Error::Refused(reasons));
        }
        for set in &images.sets {
            self.hand_on(&mut kept, Kind::Semaphores, set.made, set.semaphores.len() as u64, shell)?;
            set.restore(|batch| shell.run(batch))?;
        }
        for queue in &images.queues {
            self.hand_on(&mut kept, Kind::Messages, queue.made, 0, shell)?;
            let memory = shell.memory.try_clone().doing(|| "open the memory again".into())?;
            queue.restore(&memory, |batch| shell.run(batch))?;
        }
        Ok(kept)
    }

    /// Hands on the one that was made so, else makes it.
    fn hand_on(&mut self, kept: &mut NewObjects, kind: Kind, made: Made, size: u64, shell: &mut Shell) -> Result<()> {
        match self.0.remove(&(kind, made.id)).filter(|new| new.is(&made, size)) {
            Some(new) if !kept.0.contains_key(&(kind, made.id)) => {
                kept.0.insert((kind, made.id), new);
                Ok(())
            }
            _ => kept.add(kind, made, size, shell),
        }
    }

    /// They are the new process's own.
    pub fn keep(self) {
        self.0.into_values().for_each(NewObject::keep);
    }
}
