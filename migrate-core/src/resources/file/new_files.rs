//! What the descriptions of the new process share while they are made.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::fifo::NewFifo;
use super::pipe::NewPipe;

/// What the descriptions of one new process share while they are made.
#[derive(Debug)]
pub struct NewFiles {
    /// Source and destination are one machine, and see the same files.
    pub same_kernel: bool,
    /// The process stands still: what its files are now is what they must be here.
    pub frozen: bool,
    /// The new process, as this one sees it.
    pub(super) process: i32,
    /// When what they are made from was sent: there, and here.
    pub(super) sent: Option<(u64, Instant)>,
    /// Files without a name, by the number by which their content travels.
    pub(super) contents: HashMap<u32, Content>,
    /// Pipes made so far, by their inode on the source.
    pub(super) pipes: HashMap<u64, NewPipe>,
    /// FIFOs of which some description was made, by their device and inode on the source.
    pub(super) fifos: HashMap<(u64, u64), NewFifo>,
    /// Masters of pseudo terminals that were made so far, by their numbers.
    pub(super) ptys: HashMap<u32, OwnedFd>,
    /// Slaves that something has been written to, until the others are open too.
    pub(super) slaves: Vec<OwnedFd>,
    /// Unix sockets, which are made all together, by their inode on the source.
    pub unix: HashMap<u32, OwnedFd>,
}

/// A file without a name that has been made.
#[derive(Debug, Clone)]
pub struct Content {
    /// It.
    pub file: Arc<File>,
    /// The description with which O_TMPFILE made it, if that did.
    pub first: Option<Arc<File>>,
}

impl NewFiles {
    /// For the new process `process`, as this one sees it.
    pub fn new(process: i32, same_kernel: bool, frozen: bool) -> NewFiles {
        NewFiles {
            same_kernel,
            frozen,
            process,
            sent: None,
            contents: HashMap::new(),
            pipes: HashMap::new(),
            fifos: HashMap::new(),
            ptys: HashMap::new(),
            slaves: Vec::new(),
            unix: HashMap::new(),
        }
    }

    /// When what they are made from was sent: the source's [`time_here`](super::time_here), and that moment here.
    pub fn sent_at(self, there: u64, here: Instant) -> NewFiles {
        NewFiles { sent: Some((there, here)), ..self }
    }

    /// Nanoseconds since a [`time_here`](super::time_here) of the source.
    pub(super) fn passed_since(&self, time: u64) -> u64 {
        let here = |at: Instant| u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent.map_or(0, |(sent, at)| sent.saturating_sub(time).saturating_add(here(at)))
    }

    /// Those of the process's files without a name.
    pub fn with(self, contents: &HashMap<u32, Content>) -> NewFiles {
        NewFiles { contents: contents.clone(), ..self }
    }
}
