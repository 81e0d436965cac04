//! The source's side of the memory copy: what the destination has been told and sent, and what is still to be sent.

use std::sync::{Arc, PoisonError};

use migrate_linux::pagemap::PageMap;

use super::subject::Subject;
use crate::error::Result;
use crate::image::LayoutUpdate;
use crate::image::layout::{Layout, LayoutChange, ShmObject};
use crate::memory::layout::AddressSpace;
use crate::memory::objects::SharedObjects;
use crate::memory::page_set::PageSet;
use crate::memory::select;
use crate::memory::send::{Chunk, Chunks, PageSource};
use crate::memory::tracker::{DirtyTracker, Look};

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
    /// Finds what has changed.
    pub tracker: Box<dyn DirtyTracker>,
    /// Pages that the destination has from an earlier round, perhaps not as they are now.
    pub sent: PageSet,
    /// Pages that are known to have changed and have not been sent since.
    pub pending: PageSet,
    /// Guard pages. A write-protected one does not come up again before it changes.
    pub guards: PageSet,
    /// What of the shared objects is still to be sent.
    pub shared: SharedObjects,
    /// Take a digest of everything in the freeze.
    pub verify: bool,
    /// Pages that held nothing at the last look, if the destination has not been told since.
    pub empty: PageSet,
}

impl Pages {
    /// Lets the page streams read the objects that are mapped now.
    pub fn share_objects(&self, subject: &Subject) {
        let mut open = self.source.objects.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone_from(&subject.space.unnamed.files);
    }

    /// How the address space differs from what the destination has been told: from now on it counts as told. `empty`: pages that hold
    /// nothing now; those of them that were sent earlier must be given back there too.
    pub fn update(&mut self, subject: &Subject, empty: &PageSet) -> Result<LayoutUpdate> {
        let layout = &subject.space.layout;
        // Nearly always nothing has changed, and comparing is ten times quicker than finding out how.
        let same = self.told == *layout;
        let change = if same { LayoutChange::none(layout) } else { self.told.change_to(layout) };
        let objects = self.new_objects(subject);
        let states = self.shared.states();
        if !same {
            self.told.clone_from(layout);
        }
        self.sent = self.sent.without(&unmapped(&change));
        let kept = self.sent.without(empty);
        let dropped = self.sent.without(&kept);
        self.sent = kept;
        let drops = dropped.ranges().iter().map(|r| (r.start, r.end)).collect();
        Ok(LayoutUpdate { change, objects, states, drops, guards: Vec::new() })
    }

    /// The content of objects that have come up since the last look, in a process that stands still: what is to be sent of it. None:
    /// there are none. `update` has not been told yet, and tells of them too.
    pub fn new_content(&mut self, subject: &Subject, update: &mut LayoutUpdate) -> Result<Option<Vec<Chunk>>> {
        let new = self.new_objects(subject);
        if new.is_empty() {
            return Ok(None);
        }
        update.objects.extend(new);
        self.shared.look(&subject.space, &self.pagemap, false)?;
        update.states.extend(self.shared.states());
        self.share_objects(subject);
        Ok(Some(self.shared.chunks(&subject.space)))
    }

    /// The objects that the destination has not been told of: from now on it has.
    pub fn new_objects(&mut self, subject: &Subject) -> Vec<ShmObject> {
        let objects = &subject.space.unnamed.objects;
        let new = objects.get(self.told_objects..).unwrap_or_default().to_vec();
        self.told_objects = objects.len();
        new
    }

    /// Looks for changed pages. What the destination is going to map anew counts as changed, whether or not the process has written
    /// it: what was sent there is lost with the old mapping.
    pub fn look(&mut self, subject: &Subject, rearm: bool) -> Result<Look> {
        let layout = &subject.space.layout;
        self.shared.look(&subject.space, &self.pagemap, rearm)?;
        if self.told != *layout {
            let change = self.told.change_to(layout);
            // What is guarded in what is mapped there now, this look finds.
            self.guards = self.guards.without(&unmapped(&change));
            self.tracker.forget(&PageSet::from_ascending(change.map.iter().map(|v| v.start..v.end)));
        }
        let mut look = self.tracker.look(layout, &self.pagemap, rearm)?;
        // What has been mapped since the layout was read, the destination does not have: the next look finds all of it.
        let known = layout.vmas.iter().filter(|v| select::has_own_pages(v)).map(|v| v.start..v.end);
        let known = PageSet::from_ascending(known);
        for set in [&mut look.changed, &mut look.empty, &mut look.guards] {
            *set = set.common(&known);
        }
        let guards = self.guards.union(&look.guards).without(&look.changed).without(&look.empty);
        self.guards = guards.common(&known);
        Ok(look)
    }

    /// Cuts pages, and what is to be sent of shared objects, into chunks, and counts them as sent.
    pub fn chunks(&mut self, space: &AddressSpace, pages: &PageSet) -> Vec<Chunk> {
        let mut chunks = Chunks::default();
        let mut ranges = pages.ranges().iter().peekable();
        for vma in space.layout.vmas.iter().filter(|v| select::has_own_pages(v)) {
            while ranges.peek().is_some_and(|r| r.end <= vma.start) {
                ranges.next();
            }
            let mut ahead = ranges.clone();
            while let Some(range) = ahead.next_if(|r| r.start < vma.end) {
                let (start, end) = (range.start.max(vma.start), range.end.min(vma.end));
                // A page that the destination has already cannot be left out because it is zero now.
                let zeros_matter = select::zeros_matter(vma) || !self.sent.is_empty();
                chunks.add(0, zeros_matter, start, end);
            }
        }
        self.sent = self.sent.union(pages);
        let mut chunks = chunks.finish();
        chunks.extend(self.shared.chunks(space));
        chunks
    }
}

fn unmapped(change: &LayoutChange) -> PageSet {
    PageSet::from_ascending(change.unmap.iter().map(|&(start, end)| start..end))
}
