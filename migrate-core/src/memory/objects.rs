//! Shared objects while they are copied: what of each the destination does not have yet, or not as it is now.
//!
//! Write protection (see [`PagemapScan`](super::pagemap_scan::PagemapScan)) is a matter of the mapping, but an object can be written
//! through others, which come and go between two looks:
//!
//! - *of this process* (mremap with an old size of 0, remap_file_pages), from one that is tracked;
//! - *of a child*, which has all of them too, and may have ended again.
//!
//! So the objects' mappings are registered with a userfaultfd of their own, which tells of all that ([`Listener`]). What it tells of
//! is rare; then the objects are taken to have changed as a whole. A child that was forked before they were registered is not told
//! of: until it is certain that there is none, nothing that the marks say is believed ([`SharedObjects::may_be_shared`]).
//!
//! A page that was taken out of its object (MADV_REMOVE) still looks write-protected and unwritten. Where the object has holes is
//! known to the object, but asking costs 8 ms a GiB: so it is not asked unless the program has ever given anything back.

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
use crate::error::{Doing, Error, Result};
use crate::image::layout::{Backing, Layout};

/// Mappings of an object that hold so much less than they are long are not tracked: the marks on pages that are not there would
/// take a five hundredth of it in page tables.
const MOSTLY_HOLES: u64 = 16 << 30;

/// The shared objects of one process.
#[derive(Debug, Default)]
pub struct SharedObjects {
    /// None: nothing is sent before the freeze.
    tracking: Option<Tracking>,
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
    /// Its mappings as they were armed; none: it is not tracked.
    armed: Vec<Piece>,
    /// To be sent with the next round.
    changed: PageSet,
    /// What the destination has, perhaps not as it is now.
    sent: PageSet,
    /// Of these, what has been taken out of it.
    holes: PageSet,
}

/// Where a part of an object is mapped. Neighbours that go on in the object are one piece, whatever their protection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    addresses: Range<u64>,
    offset: u64,
}

impl SharedObjects {
    /// Has them tracked from the next look on, by a userfaultfd of the process's address space, fresh from userfaultfd(2) with
    /// O_NONBLOCK.
    pub fn track(&mut self, userfaultfd: UserFaultFd) -> Result<()> {
        let features = feature::TRACKING | feature::EVENTS;
        userfaultfd.api(features).doing(|| "have the kernel tell what is done with shared memory".into())?;
        let userfaultfd = Arc::new(userfaultfd);
        let listener = Listener::start(userfaultfd.clone()).doing(|| "listen for what is told of memory".into())?;
        self.tracking = Some(Tracking { listener, userfaultfd });
        Ok(())
    }

    /// Whether another process may have some of them. Then let every call of the process come to its end, so that no fork is half
    /// done, look who has them, and say so by [`SharedObjects::are_its_own`]. In the freeze only look.
    pub fn may_be_shared(&mut self) -> bool {
        if let Some(tracking) = &self.tracking {
            let told = tracking.listener.take(|told| Told { forked: false, ..told });
            self.perhaps_shared |= told.forked;
        }
        self.perhaps_shared
    }

    /// No other process had any of them, after [`SharedObjects::may_be_shared`]. Looks once more: what others have written before is
    /// found now.
    pub fn are_its_own(&mut self, space: &AddressSpace, pagemap: &PageMap) -> Result<()> {
        self.perhaps_shared = false;
        self.objects.values_mut().for_each(|object| object.armed.clear());
        let (told, _) = self.look_at_all(space, pagemap, true)?;
        // Perhaps none was registered for a moment.
        self.perhaps_shared = told.rearranged;
        Ok(())
    }

    /// Looks for what has changed. `rearm`: the process runs on, and will be looked at again; else all is found.
    pub fn look(&mut self, space: &AddressSpace, pagemap: &PageMap, rearm: bool) -> Result<()> {
        if self.tracking.is_some() || !rearm {
            let (told, new) = self.look_at_all(space, pagemap, rearm)?;
            self.perhaps_shared |= told.rearranged || new;
        }
        Ok(())
    }

    /// Returns what was told, and whether anything has been registered.
    fn look_at_all(&mut self, space: &AddressSpace, pagemap: &PageMap, rearm: bool) -> Result<(Told, bool)> {
        let take = |t: &Tracking| t.listener.take(|told| Told { rearranged: false, ..told });
        let told = self.tracking.as_ref().map(take).unwrap_or_default();
        let mapped = pieces(of_layout(&space.layout));
        let mut new = Vec::new();
        for (number, file) in (1..).zip(&space.object_files) {
            let Some(file) = file else { continue };
            let object = self.objects.entry(number).or_default();
            let pieces = mapped.get(&number).map_or(&[][..], Vec::as_slice);
            let known = !(told.rearranged || told.forked || self.perhaps_shared) && object.armed == pieces;
            if known && !pieces.is_empty() && object.find_written(pagemap, rearm)? {
                if told.given_back {
                    object.find_holes(file)?;
                }
                continue;
            }
            object.armed.clear();
            // One of these may have been written, sent, and taken out again.
            object.holes = PageSet::default();
            new.push((number, file, pieces));
        }
        if rearm {
            let armed = self.arm(&new, space, pagemap)?;
            new.retain(|(number, ..)| armed.contains(number));
        }
        let any = !new.is_empty();
        for (number, file, pieces) in new {
            let object = self.objects.entry(number).or_default();
            object.armed = if rearm { pieces.to_vec() } else { Vec::new() };
            object.changed = object.changed.union(&data_of(file)?);
            object.find_holes(file)?;
        }
        Ok((told, any))
    }

    /// Bytes that are to be sent.
    pub fn bytes(&self) -> u64 {
        self.objects.values().map(|object| object.changed.bytes()).sum()
    }

    /// What is to be sent: from now on it counts as sent.
    pub fn chunks(&mut self, space: &AddressSpace) -> Vec<Chunk> {
        let mut chunks = Chunks::default();
        for (number, object) in &mut self.objects {
            let size = space.objects.get(*number as usize - 1).map_or(0, |object| object.size);
            let mapped = space.object_files.get(*number as usize - 1).is_some_and(Option::is_some);
            // A mapping may be longer than its object.
            let pages = std::mem::take(&mut object.changed).within(&(0..size));
            if !mapped {
                continue;
            }
            let zeros_matter = !object.sent.is_empty();
            for range in pages.ranges() {
                chunks.add(*number, zeros_matter, range.start, range.end);
            }
            object.sent = object.sent.union(&pages);
        }
        chunks.finish()
    }

    /// Registers and arms what is new. Returns the numbers of those objects that are tracked now.
    fn arm(&self, new: &[(u32, &Arc<File>, &[Piece])], space: &AddressSpace, pagemap: &PageMap) -> Result<Vec<u32>> {
        let Some(tracking) = self.tracking.as_ref().filter(|_| !new.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut registered = Vec::new();
        for (number, file, pieces) in new {
            let metadata = file.metadata().doing(|| "ask how much shared memory there is".into())?;
            let length: u64 = pieces.iter().map(|p| p.addresses.end - p.addresses.start).sum();
            let has_holes = length.saturating_sub(metadata.blocks() * 512) > MOSTLY_HOLES;
            let register = |p: &Piece| tracking.userfaultfd.register_wp(p.addresses.clone()).is_ok();
            if !pieces.is_empty() && !has_holes && pieces.iter().all(register) {
                registered.push((*number, *pieces));
            }
        }
        // The program may have had another mapping there by then.
        let now = pieces(space.objects_mapped(pagemap.pid())?.into_iter());
        let mut armed = Vec::new();
        for (number, pieces) in registered {
            let stayed = now.get(&number).is_some_and(|now| now == pieces);
            if stayed && Object::scan(pieces, pagemap, true, |_| ())? {
                armed.push(number);
                continue;
            }
            for piece in pieces {
                // What is not there any more is not registered any more.
                let _ = tracking.userfaultfd.unregister(piece.addresses.clone());
            }
        }
        Ok(armed)
    }
}

impl Object {
    /// Finds what was written through its mappings. Ok(false): they are not those that were armed.
    fn find_written(&mut self, pagemap: &PageMap, rearm: bool) -> Result<bool> {
        let mut written = Vec::new();
        let found = Object::scan(&self.armed, pagemap, rearm, |offsets| written.push(offsets));
        written.sort_unstable_by_key(|r: &Range<u64>| r.start);
        let written = PageSet::from_ascending(written);
        self.changed = self.changed.union(&written);
        self.holes = self.holes.without(&written);
        found
    }

    /// Finds what was taken out of it since it was sent.
    fn find_holes(&mut self, file: &File) -> Result<()> {
        if !self.sent.is_empty() {
            let holes = self.sent.without(&data_of(file)?);
            self.changed = self.changed.union(&holes.without(&self.holes));
            self.holes = holes;
        }
        Ok(())
    }

    /// Tells the offsets of all pages that have been written, or were never armed. Ok(false): not all is tracked.
    fn scan(pieces: &[Piece], pagemap: &PageMap, arm: bool, mut tell: impl FnMut(Range<u64>)) -> Result<bool> {
        let request = ScanRequest {
            all_of: category::WRITTEN,
            report: category::WRITTEN,
            write_protect: arm,
            check_tracked: true,
            ..ScanRequest::default()
        };
        for Piece { addresses, offset } in pieces {
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

fn data_of(file: &File) -> Result<PageSet> {
    Ok(PageSet::from_ascending(data_ranges(file).doing(|| "find the data of shared memory".into())?))
}

fn of_layout(layout: &Layout) -> impl Iterator<Item = (u32, Range<u64>, u64)> + '_ {
    layout.vmas.iter().filter_map(|v| match v.backing {
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
