//! Compares the new process's memory with the original's, once all pages are in place and before anything runs in it.

use std::sync::Mutex;

use super::Making;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::memory::send::PageSource;
use crate::memory::verify::Digest;

impl Making {
    /// Refuses a process whose memory is not what the original's was.
    pub fn verify(&self, original: &Digest) -> Result<()> {
        let of: Vec<(u64, u64)> = original.mappings.iter().map(|m| (m.start, m.end)).collect();
        if of.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(Error::Invalid("the digest's mappings make no sense".into()));
        }
        let memory = self.shell.memory.try_clone().doing(|| "open the memory again".into())?;
        let objects = self.placement.objects()?.into_iter().map(Some).collect();
        let source = PageSource { memory, objects: Mutex::new(objects) };
        if fault::corrupts() {
            self.damage(original)?;
        }
        let here = Digest::compute(&self.layout, &source, &of)?;
        match original.difference(&here, &self.layout) {
            None => Ok(()),
            Some(what) => Err(Error::Refused(vec![format!(
                "{what} is not the same here as in the original; it was not copied right: try again, and report this"
            )])),
        }
    }

    /// As if a page of the first mapping that holds any had gone wrong on its way.
    fn damage(&self, original: &Digest) -> Result<()> {
        let Some(mapping) = original.mappings.iter().find(|m| m.digest != 0) else { return Ok(()) };
        let mut byte = [0];
        self.shell.memory.read(mapping.start, &mut byte).doing(|| "read a byte".into())?;
        self.shell.memory.write(mapping.start, &[!byte[0]]).doing(|| "damage a byte".into())
    }
}
