//! Shared objects while they are copied: what of each the destination does not have yet, or not as it is now.
//!
//! Write protection (see [`PagemapScan`](super::pagemap_scan::PagemapScan)) is a matter of the mapping, but an object can be written
//! through others, which come and go between two looks:
//!
//! - *of this process* (mremap with an old size of 0, remap_file_pages), from one that is tracked;
//! - *of a child*, which has all of them too, and may have ended again.
//!
//! So the objects' mappings are registered with a userfaultfd of their own, which tells of all that ([`Listener`]). What it tells of
//! is rare. It tells some of it before it is done, and what is registered while the program maps other things is perhaps not what was
//! meant (a part of a mapping, which splits it: the program sees that, mremap fails with EFAULT). So nothing of it is believed before
//! the process stood still with every call at its end, and only then anything is registered ([`SharedObjects::settle`]).
//!
//! A child that was forked before they were registered is not told of: until it is certain that there is none, nothing that the marks
//! say is believed ([`SharedObjects::are_its_own`]).
//!
//! A page that was taken out of its object (MADV_REMOVE) and read again still looks write-protected and unwritten; of that, too, the
//! userfaultfd tells.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use migrate_linux::pagemap::{PageMap, ScanError, ScanRequest, category};
use migrate_linux::userfault_events::{Listener, Told};
use migrate_linux::userfaultfd::{UserFaultFd, feature};

use super::layout::AddressSpace;
use super::page_set::PageSet;
use super::scan::STRIDE;
use super::select::data_ranges;
use super::send::{Chunk, Chunks};
use super::stamp::Stamp;
use crate::error::{Doing, Error, Result};
use crate::image::layout::{Backing, Layout, ObjectState, PAGE};
use crate::proc::process::Process;

/// Mappings of an object that hold so much less than they are long are not tracked: the marks on pages that are not there would
/// take a five hundredth of it in page tables.
const MOSTLY_HOLES: u64 = 16 << 30;

/// The shared objects of one process.
#[derive(Debug, Default)]
pub struct SharedObjects {
    /// None: nothing is sent before the freeze.
    tracking: Option<Tracking>,
    /// What has been told of them and is not settled.
    told: Told,
    /// Another process has them mapped, or may have.
    perhaps_shared: bool,
    objects: BTreeMap<u32, Object>,
}

#[derive(Debug)]
struct Tracking {
    // Dropped first: from then on nobody reads the other's events.
    listener: Listener,
    userfaultfd: Arc<UserFaultFd>,
}

/// One of them. Pages are named by their offsets in it.
#[derive(Debug, Default)]
struct Object {
    /// Its mappings as they were registered.
    registered: Vec<Piece>,
    /// Whether the marks in those tell all that was written since the last look.
    armed: bool,
    /// To be sent with the next round.
    changed: PageSet,
    /// What the destination has, perhaps not as it is now.
    sent: PageSet,
    /// Of one that is written otherwise than through its mappings: as it was when it was found whole.
    stamp: Option<Stamp>,
    /// Descriptors refer to it, or did.
    was_open: bool,
    /// As it is now.
    state: Option<ObjectState>,
    /// As the destination has been told.
    told: Option<ObjectState>,
}

/// Where a part of an object is mapped. Neighbours that go on in the object are one piece, whatever their protection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    addresses: Range<u64>,
    offset: u64,
}

impl SharedObjects {
    /// Has them tracked once they are settled, by a userfaultfd of the process's address space, fresh from userfaultfd(2) with
    /// O_NONBLOCK.
    pub fn track(&mut self, userfaultfd: UserFaultFd) -> Result<()> {
        let features = feature::TRACKING | feature::EVENTS;
        userfaultfd.api(features).doing(|| "have the kernel tell what is done with shared memory".into())?;
        let userfaultfd = Arc::new(userfaultfd);
        let listener = Listener::start(userfaultfd.clone()).doing(|| "listen for what is told of memory".into())?;
        self.tracking = Some(Tracking { listener, userfaultfd });
        Ok(())
    }

    /// Whether something else was done with them than to write them, or they are mapped elsewhere than they were: until they are settled,
    /// some of them are not looked at.
    pub fn are_unsettled(&mut self, space: &AddressSpace) -> bool {
        if self.tracking.is_none() {
            return false;
        }
        self.hear();
        let mapped = pieces(of_layout(&space.layout));
        let as_registered = |(number, now): (&u32, &Vec<Piece>)| {
            self.objects.get(number).is_some_and(|object| object.registered == *now || object.registered.is_empty())
        };
        self.perhaps_shared || !self.told.is_nothing() || !mapped.iter().all(as_registered)
    }

    /// Takes in what was told, and registers them as they are mapped now. The process stands still, with every call at its end: what was
    /// told is done, and no fork is half done. If they may be shared after this, look who has them while it runs, and say so by
    /// [`SharedObjects::are_its_own`].
    pub fn settle(&mut self, space: &AddressSpace, process: Process) -> Result<()> {
        self.take_in();
        let Some(tracking) = &self.tracking else { return Ok(()) };
        let mapped = pieces(space.objects_mapped(process)?.into_iter());
        for (number, file) in (1..).zip(&space.unnamed.files) {
            let Some(file) = file else { continue };
            let object = self.objects.entry(number).or_default();
            let pieces = mapped.get(&number).map_or(&[][..], Vec::as_slice);
            if object.armed && object.registered == pieces {
                continue;
            }
            object.armed = false;
            let register = |p: &Piece| tracking.userfaultfd.register_wp(p.addresses.clone()).is_ok();
            let registered = !pieces.is_empty() && !has_many_holes(file, pieces)? && pieces.iter().all(register);
            object.registered = if registered { pieces.to_vec() } else { Vec::new() };
            // A child from before it was registered.
            self.perhaps_shared |= registered;
        }
        Ok(())
    }

    /// Whether another process may have some of them.
    pub fn may_be_shared(&mut self) -> bool {
        self.hear();
        self.perhaps_shared || self.told.forked
    }

    /// No other process had any of them since they were settled.
    pub fn are_its_own(&mut self) {
        self.perhaps_shared = false;
    }

    fn hear(&mut self) {
        if let Some(tracking) = &self.tracking {
            self.told.add(tracking.listener.take());
        }
    }

    /// Takes in what was told, all of which is done by now.
    fn take_in(&mut self) {
        self.hear();
        let told = std::mem::take(&mut self.told);
        self.perhaps_shared |= told.forked;
        for object in self.objects.values_mut() {
            object.armed &= !(told.rearranged || self.perhaps_shared);
            told.given_back.iter().for_each(|range| object.is_given_back(range));
        }
    }

    /// Looks for what has changed. `rearm`: the process runs on, and will be looked at again; else it stands still, and all is found.
    pub fn look(&mut self, space: &AddressSpace, pagemap: &PageMap, rearm: bool) -> Result<()> {
        if !rearm {
            self.take_in();
        }
        let mapped = pieces(of_layout(&space.layout));
        for (number, file) in (1..).zip(&space.unnamed.files) {
            let Some(file) = file else { continue };
            let object = self.objects.entry(number).or_default();
            object.was_open |= space.unnamed.is_open(number);
            object.state = match space.unnamed.objects.get(number as usize - 1) {
                Some(of) => ObjectState::of(of, file).doing(|| "look at a file without a name".into())?,
                None => None,
            };
            let is_mapped = mapped.contains_key(&number);
            if object.was_open || !is_mapped {
                object.find_rewritten(file)?;
            }
            if !is_mapped {
                continue;
            }
            let as_registered = !object.registered.is_empty() && mapped.get(&number) == Some(&object.registered);
            if object.armed && as_registered && object.find_written(pagemap, rearm)? {
                continue;
            }
            object.armed = false;
            if rearm {
                let tracked = as_registered && self.tracking.is_some() && !self.perhaps_shared;
                if !tracked || !object.scan(pagemap, true, |_| ())? {
                    continue;
                }
                object.armed = true;
            }
            object.find_all(file)?;
        }
        Ok(())
    }

    /// Those that are not as the destination has been told: from now on it counts as told.
    pub fn states(&mut self) -> Vec<ObjectState> {
        let changed = |o: &mut Object| o.state.filter(|now| o.told.replace(*now) != Some(*now));
        self.objects.values_mut().filter_map(changed).collect()
    }

    /// Bytes that are to be sent.
    pub fn bytes(&self) -> u64 {
        self.objects.values().map(|object| object.changed.bytes()).sum()
    }

    /// What is to be sent: from now on it counts as sent.
    pub fn chunks(&mut self, space: &AddressSpace) -> Vec<Chunk> {
        let mut chunks = Chunks::default();
        for (number, object) in &mut self.objects {
            let place = *number as usize - 1;
            let size = object.state.map(|now| now.size);
            let size = size.or_else(|| Some(space.unnamed.objects.get(place)?.size)).unwrap_or(0);
            let is_held = space.unnamed.files.get(place).is_some_and(Option::is_some);
            // A mapping may be longer than its object.
            let pages = std::mem::take(&mut object.changed).within(&(0..size.next_multiple_of(PAGE)));
            if !is_held {
                continue;
            }
            if !pages.is_empty() {
                // Writing there changes the times.
                object.told = None;
            }
            let zeros_matter = !object.sent.is_empty();
            for range in pages.ranges() {
                chunks.add(*number, zeros_matter, range.start, range.end);
            }
            object.sent = object.sent.union(&pages);
        }
        chunks.finish()
    }
}

impl Object {
    /// What was sent of it may not be what is there now.
    fn is_given_back(&mut self, addresses: &Range<u64>) {
        for piece in &self.registered {
            let start = addresses.start.max(piece.addresses.start);
            let end = addresses.end.min(piece.addresses.end);
            if start < end {
                let first = piece.offset + (start - piece.addresses.start);
                self.changed = self.changed.union(&self.sent.within(&(first..first + (end - start))));
            }
        }
    }

    /// All of it.
    fn find_all(&mut self, file: &File) -> Result<()> {
        let data = data_of(file)?;
        // Zeros must replace what is there.
        self.changed = self.changed.union(&self.sent.without(&data)).union(&data);
        Ok(())
    }

    /// By its stamp, which tells of all of it at once.
    fn find_rewritten(&mut self, file: &File) -> Result<()> {
        let now = Stamp::take(file).doing(|| "look at a file without a name".into())?;
        if !self.stamp.replace(now).is_some_and(|before| now.is_as_before(&before)) {
            self.find_all(file)?;
        }
        Ok(())
    }

    /// Finds what was written through its mappings. Ok(false): they are not those that were armed.
    fn find_written(&mut self, pagemap: &PageMap, rearm: bool) -> Result<bool> {
        let mut written = Vec::new();
        let found = self.scan(pagemap, rearm, |offsets| written.push(offsets));
        written.sort_unstable_by_key(|r: &Range<u64>| r.start);
        self.changed = self.changed.union(&PageSet::from_ascending(written));
        found
    }

    /// Tells the offsets of all pages that have been written, or were never armed. Ok(false): not all is tracked.
    fn scan(&self, pagemap: &PageMap, arm: bool, mut tell: impl FnMut(Range<u64>)) -> Result<bool> {
        let request = ScanRequest {
            all_of: category::WRITTEN,
            report: category::WRITTEN,
            write_protect: arm,
            check_tracked: true,
            ..ScanRequest::default()
        };
        for Piece { addresses, offset } in &self.registered {
            let mut at = addresses.start;
            while at < addresses.end {
                let end = addresses.end.min(at.saturating_add(STRIDE));
                let mut regions = Vec::new();
                let result = pagemap.scan(at..end, request, &mut regions);
                // Also when it stops half-way: what it has found is armed by now.
                for region in regions {
                    let first = region.start - addresses.start + offset;
                    tell(first..first + (region.end - region.start));
                }
                match result {
                    Ok(()) => at = end,
                    Err(ScanError::Untracked { .. }) => return Ok(false),
                    Err(e) => {
                        let doing = format!("look for changed shared memory at {at:x}");
                        return Err(Error::io(doing, std::io::Error::other(e)));
                    }
                }
            }
        }
        Ok(true)
    }
}

fn has_many_holes(file: &File, pieces: &[Piece]) -> Result<bool> {
    let metadata = file.metadata().doing(|| "ask how much shared memory there is".into())?;
    let length: u64 = pieces.iter().map(|p| p.addresses.end - p.addresses.start).sum();
    Ok(length.saturating_sub(metadata.blocks() * 512) > MOSTLY_HOLES)
}

fn data_of(file: &File) -> Result<PageSet> {
    Ok(PageSet::from_ascending(data_ranges(file).doing(|| "find the data of shared memory".into())?))
}

fn of_layout(layout: &Layout) -> impl Iterator<Item = (u32, Range<u64>, u64)> + '_ {
    layout.vmas.iter().filter(|v| v.shared).filter_map(|v| match v.backing {
        Backing::Object { object, offset } => Some((object, v.start..v.end, offset)),
        _ => None,
    })
}

/// The pieces of each object, from its mappings in the order of their addresses.
fn pieces(mappings: impl Iterator<Item = (u32, Range<u64>, u64)>) -> BTreeMap<u32, Vec<Piece>> {
    let mut pieces: BTreeMap<u32, Vec<Piece>> = BTreeMap::new();
    for (object, addresses, offset) in mappings {
        let of_object = pieces.entry(object).or_default();
        match of_object.last_mut() {
            Some(last)
                if last.addresses.end == addresses.start
                    && last.offset.wrapping_add(last.addresses.end - last.addresses.start) == offset =>
            {
                last.addresses.end = addresses.end;
            }
            _ => of_object.push(Piece { addresses, offset }),
        }
    }
    pieces
}
