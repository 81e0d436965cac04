//! Pre-copy: the destination makes the process and receives its pages while it still runs here.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, Mutex};

use migrate_linux::map_files;
use migrate_linux::pagemap::PageMap;
use migrate_linux::process_memory::ProcessMemory;

use super::freeze::{Frozen, freeze};
use super::record::Record;
use super::subject::Subject;
use super::undo::UndoList;
use crate::error::{Doing, Error, Result};
use crate::image::Skeleton;
use crate::image::layout::Layout;
use crate::memory::select;
use crate::memory::send::{PageSource, PageStreams};
use crate::phase::Phase;
use crate::plan::Plan;
use crate::protocol::message::{ToDestination, ToSource};

/// Both sides have agreed. Nothing has been changed.
#[must_use]
pub struct Ready<'r, 'o> {
    pub(super) plan: Plan,
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
}

/// The destination has an empty process with all mappings, and page streams are open.
#[must_use]
pub struct Precopied<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    pub(super) pages: Pages,
}

/// The source's side of the memory copy.
pub struct Pages {
    /// Where pages are read.
    pub source: Arc<PageSource>,
    /// Which of them hold something.
    pub pagemap: PageMap,
    /// The round that is next, from 1.
    pub next_round: u32,
    /// How many layout updates have been sent.
    pub layout_version: u32,
    /// The layout that the destination has been told.
    pub told: Layout,
    /// How many shared objects it has been told of.
    pub told_objects: usize,
}

impl Pages {
    /// Opens the objects that the subject's address space names and that are not open yet.
    pub fn open_objects(&self, subject: &Subject) -> Result<()> {
        let mut open = self.source.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for object in subject.space.objects.iter().skip(open.len()) {
            let (start, end) = subject.space.mapping_of(object.id).ok_or_else(|| {
                Error::Invalid("shared memory was unmapped while it was being copied; try again".into())
            })?;
            let file: File = map_files::open_mapped(subject.pid, start, end, false)
                .doing(|| format!("open the shared memory at {start:x}"))?;
            open.push(Arc::new(file));
        }
        Ok(())
    }
}

impl Pages {
    /// Where a shared object holds anything.
    pub fn data_of(&self, object: u32) -> Result<Vec<std::ops::Range<u64>>> {
        let open = self.source.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let file = open.get(object as usize - 1).cloned();
        drop(open);
        let file = file.ok_or_else(|| Error::Invalid(format!("shared object {object} is not open")))?;
        select::data_ranges(&file).doing(|| "find the data of shared memory".into())
    }
}

impl<'r, 'o> Ready<'r, 'o> {
    /// Has the destination make the process, and copies memory to it while it runs here.
    ///
    /// Err: the destination has discarded it.
    pub fn pre_copy(self) -> Result<Precopied<'r, 'o>> {
        let Ready { plan, record, mut undo, subject } = self;
        record.enter(Phase::PreCopy { round: 1 });
        undo.push("tell the destination to discard", |held| match held.peer.as_mut() {
            // The peer may have failed itself; a lost connection is a Discard too.
            Some(peer) => peer.send(&ToDestination::Discard).or(Ok(())),
            None => Ok(()),
        });
        let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
        let streams = plan.options.streams.clamp(1, 16);
        let skeleton = Skeleton {
            layout: subject.space.layout.clone(),
            objects: subject.space.objects.clone(),
            streams,
            highest_descriptor: subject.files.iter().flat_map(|f| f.numbers.iter().copied()).max().unwrap_or(0),
        };
        peer.send(&ToDestination::Build(skeleton))?;
        let source = Arc::new(PageSource {
            memory: ProcessMemory::open(subject.pid).doing(|| format!("open the memory of {}", subject.pid))?,
            objects: Mutex::default(),
        });
        let pagemap = PageMap::open(subject.pid).doing(|| format!("open the pagemap of {}", subject.pid))?;
        let pages = Pages {
            source: source.clone(),
            pagemap,
            next_round: 1,
            layout_version: 0,
            told: subject.space.layout.clone(),
            told_objects: subject.space.objects.len(),
        };
        match peer.receive()? {
            ToSource::Built => {}
            other => return Err(peer.unexpected(&other)),
        }
        let connections = (0..streams).map(|_| peer.open_page_stream()).collect::<Result<Vec<_>>>()?;
        undo.held.streams = Some(PageStreams::start(connections, source)?);
        pages.open_objects(&subject)?;
        Ok(Precopied { record, undo, subject, pages })
    }
}

impl<'r, 'o> Precopied<'r, 'o> {
    /// Stops every thread. The downtime begins.
    pub fn freeze(self) -> Result<Frozen<'r, 'o>> {
        freeze(self)
    }
}

/// The threads of a process that are known.
pub type Tids = BTreeSet<i32>;
