//! Which pages of a running process have changed.

use std::ops::Range;

use migrate_linux::pagemap::{PageMap, PageRegion, ScanError, ScanRequest, category};
use migrate_linux::userfaultfd::{UserFaultFd, feature};

use super::page_set::PageSet;
use super::select::has_own_pages;
use crate::error::{Doing, Error, Result};
use crate::image::layout::{Backing, Layout, PAGE, TASK_SIZE, Vma};

/// What a look at the pages showed.
#[derive(Debug, Default)]
pub struct Look {
    /// Pages that hold something of their own and may have changed since the last look.
    pub changed: PageSet,
    /// Pages that hold nothing: they are as mapped, or zero. Every page that held something at the last look and no longer does is
    /// among them.
    pub empty: PageSet,
    /// Guard pages (MADV_GUARD_INSTALL) that are new since the last look, and perhaps others.
    pub guards: PageSet,
}

/// Finds what has changed. After every look with `rearm` the next one finds all that was written since.
pub trait DirtyTracker {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// From the next look on, all of these pages count as changed: the destination has lost them.
    fn forget(&mut self, pages: &PageSet);

    /// Whether the process must stand still during the next look, if that rearms.
    fn stops_to_rearm(&self) -> bool {
        false
    }

    /// Looks at all pages of a layout. `rearm`: the process runs on, and will be looked at again.
    ///
    /// A page that changed is never left out; one that did not may be there.
    fn look(&mut self, layout: &Layout, pagemap: &PageMap, rearm: bool) -> Result<Look>;
}

/// No tracking: every look finds everything.
#[derive(Debug)]
pub struct Untracked;

impl DirtyTracker for Untracked {
    fn name(&self) -> &'static str {
        "none"
    }

    fn forget(&mut self, _pages: &PageSet) {}

    fn look(&mut self, layout: &Layout, pagemap: &PageMap, _rearm: bool) -> Result<Look> {
        let mut found = Found { guard: known_guard(pagemap), ..Found::default() };
        for vma in layout.vmas.iter().filter(|v| has_own_pages(v)) {
            found.scan_all(vma.start..vma.end, is_of_file(vma), pagemap, false).map_err(|e| failed(vma, e))?;
        }
        Ok(found.look())
    }
}

/// Asynchronous write protection by a userfaultfd of the process's own address space, read and cleared by PAGEMAP_SCAN
/// (Linux 6.7; ioctl_userfaultfd(2), Documentation/admin-guide/mm/pagemap.rst).
///
/// Memory that the program maps later is not tracked until it is registered; memory whose place was unmapped and mapped anew looks
/// the same in /proc/PID/maps. The scan tells (EPERM), and then all of it counts as changed.
#[derive(Debug)]
pub struct PagemapScan {
    userfaultfd: UserFaultFd,
    /// What is registered, as far as is known.
    registered: PageSet,
    /// What has been registered in this look.
    new: Vec<Range<u64>>,
    /// What lies between mappings that are not tracked, holes included, and whether it was registered in this look.
    spans: Vec<(Range<u64>, Option<bool>)>,
}

/// The stretches between mappings that cannot be tracked.
fn spans(layout: &Layout) -> Vec<(Range<u64>, Option<bool>)> {
    let mut spans = Vec::new();
    let mut start = PAGE;
    for vma in layout.vmas.iter().filter(|v| !has_own_pages(v)) {
        if vma.start > start {
            spans.push((start..vma.start, None));
        }
        start = vma.end;
    }
    spans.push((start..TASK_SIZE, None));
    spans
}

/// Bytes looked at in one go: the scan holds the address space's lock, and an mmap of the program waits.
const STRIDE: u64 = 256 << 20;

impl PagemapScan {
    /// With a userfaultfd of the process's address space, fresh from userfaultfd(2).
    pub fn new(userfaultfd: UserFaultFd) -> Result<PagemapScan> {
        userfaultfd.api(feature::TRACKING).doing(|| "enable asynchronous write protection (Linux 6.7)".into())?;
        Ok(PagemapScan { userfaultfd, registered: PageSet::default(), new: Vec::new(), spans: Vec::new() })
    }

    /// Looks at one mapping whose pages may be tracked in part, or no longer.
    fn look_at(&mut self, vma: &Vma, pagemap: &PageMap, rearm: bool, found: &mut Found) -> Result<()> {
        let range = vma.start..vma.end;
        let whole = PageSet::from_ascending([range.clone()]);
        let untracked = whole.without(&self.registered);
        for part in whole.without(&untracked).ranges() {
            match found.scan_written(part.clone(), is_of_file(vma), pagemap, rearm) {
                Ok(()) => {}
                // Mapped anew since it was registered.
                Err(ScanError::Untracked { .. }) => self.look_at_new(part.clone(), vma, pagemap, rearm, found)?,
                Err(e) => return Err(failed(vma, e)),
            }
        }
        untracked.ranges().iter().try_for_each(|part| self.look_at_new(part.clone(), vma, pagemap, rearm, found))
    }

    /// Looks at memory that is not tracked: all of it counts as changed. Its pages may even look write-protected from an
    /// earlier life at another address (mremap before Linux 6.13).
    fn look_at_new(
        &mut self,
        part: Range<u64>,
        vma: &Vma,
        pagemap: &PageMap,
        rearm: bool,
        found: &mut Found,
    ) -> Result<()> {
        if rearm && self.register_around(vma.start, false) {
            self.new.push(part.clone());
            for again in [true, false] {
                match found.scan_all(part.clone(), is_of_file(vma), pagemap, true) {
                    Ok(()) => return Ok(()),
                    // Mapped anew since. What was found is kept; after a second time the next look will see.
                    Err(ScanError::Untracked { .. }) if again && self.register_around(vma.start, true) => {}
                    Err(ScanError::Untracked { .. }) => break,
                    Err(e) => return Err(failed(vma, e)),
                }
            }
        }
        found.scan_all(part, is_of_file(vma), pagemap, false).map_err(|e| failed(vma, e))
    }

    /// Registers the span around an address, once in each look unless `again`. Never a mapping by its own bounds: the program may
    /// have another one there by now, and registering a part of a mapping splits it, which the program sees (mremap fails with
    /// EFAULT). Ok(false) as a value: something in it cannot be registered, and nothing of it is tracked.
    fn register_around(&mut self, address: u64, again: bool) -> bool {
        let at = self.spans.partition_point(|(span, _)| span.end <= address);
        let Some((span, done)) = self.spans.get_mut(at) else { return false };
        if done.is_none() || again {
            *done = Some(self.userfaultfd.register_wp(span.clone()).is_ok());
        }
        *done == Some(true)
    }

    /// Looks at neighbours in one go when all of them are tracked. Ok(false): they must be looked at one by one.
    fn look_at_group(&mut self, group: &[Vma], pagemap: &PageMap, rearm: bool, found: &mut Found) -> Result<bool> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(true) };
        if !group.iter().all(|v| self.registered.covers(&(v.start..v.end))) {
            return Ok(false);
        }
        match found.scan_written(first.start..last.end, is_of_file(first), pagemap, rearm) {
            Ok(()) => Ok(true),
            Err(ScanError::Untracked { .. }) => Ok(false),
            Err(e) => Err(failed(first, e)),
        }
    }
}

fn is_of_file(vma: &Vma) -> bool {
    vma.backing != Backing::Anonymous
}

fn failed(vma: &Vma, error: ScanError) -> Error {
    Error::io(format!("look for changed pages in {:x}-{:x}", vma.start, vma.end), std::io::Error::other(error))
}

/// What the scans of one look have found, about in the order of addresses.
#[derive(Default)]
struct Found {
    regions: Vec<PageRegion>,
    changed: Vec<Range<u64>>,
    empty: Vec<Range<u64>>,
    guards: Vec<Range<u64>>,
    /// [`category::GUARD`], where the kernel knows it.
    guard: u64,
}

/// [`category::GUARD`] where the kernel knows it, else 0: then guard pages look like swap, and reading them fails.
fn known_guard(pagemap: &PageMap) -> u64 {
    let request = ScanRequest { all_of: category::GUARD, report: category::GUARD, ..ScanRequest::default() };
    let probe = pagemap.supports_scan() && pagemap.scan(PAGE..2 * PAGE, request, &mut Vec::new()).is_ok();
    if probe { category::GUARD } else { 0 }
}

/// Pages that hold something; in a file's mapping, something other than the file.
fn own_pages(of_file: bool) -> ScanRequest {
    let inverted = if of_file { category::PFNZERO | category::FILE } else { category::PFNZERO };
    ScanRequest { inverted, all_of: inverted, any_of: category::PRESENT | category::SWAPPED, ..ScanRequest::default() }
}

impl Found {
    /// All that is there has changed. `arm`: from now on it is tracked.
    fn scan_all(
        &mut self,
        range: Range<u64>,
        of_file: bool,
        pagemap: &PageMap,
        arm: bool,
    ) -> std::result::Result<(), ScanError> {
        let request = ScanRequest { report: self.guard, write_protect: arm, check_tracked: arm, ..own_pages(of_file) };
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(STRIDE));
            self.regions.clear();
            // Also when it stops half-way: what it has found is write-protected by now, and no later scan finds it again.
            let result = pagemap.scan(at..end, request, &mut self.regions);
            let mut behind = at;
            for region in &self.regions {
                self.empty.push(behind..region.start);
                let pages = region.start..region.end;
                let is_guard = region.categories & self.guard != 0;
                if is_guard { &mut self.guards } else { &mut self.changed }.push(pages);
                behind = region.end;
            }
            result?;
            self.empty.push(behind..end);
            at = end;
        }
        Ok(())
    }

    /// What has been written, or given back, since it was armed. `rearm`: and arms that again.
    ///
    /// A first scan asks for nothing but "written", which the kernel does fast (0.75 ms a GiB; with any other condition it looks at
    /// every page, 27 ms a GiB). Pages that were never there count as written, so a second one looks closer at those alone.
    fn scan_written(
        &mut self,
        range: Range<u64>,
        of_file: bool,
        pagemap: &PageMap,
        rearm: bool,
    ) -> std::result::Result<(), ScanError> {
        let written = category::WRITTEN;
        let request = ScanRequest { all_of: written, report: written, check_tracked: true, ..ScanRequest::default() };
        let mut candidates = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(STRIDE));
            pagemap.scan(at..end, request, &mut candidates)?;
            at = end;
        }
        for near in candidates.chunk_by(|a, b| b.start - a.end <= NEAR) {
            if let (Some(first), Some(last)) = (near.first(), near.last()) {
                self.look_closer(first.start..last.end, of_file, pagemap, rearm)?;
            }
        }
        Ok(())
    }

    fn look_closer(
        &mut self,
        range: Range<u64>,
        of_file: bool,
        pagemap: &PageMap,
        rearm: bool,
    ) -> std::result::Result<(), ScanError> {
        let report = category::WRITTEN | category::SWAPPED | self.guard;
        let request = ScanRequest { report, write_protect: rearm, check_tracked: true, ..own_pages(of_file) };
        self.regions.clear();
        let result = pagemap.scan(range.clone(), request, &mut self.regions);
        let mut behind = range.start;
        for region in &self.regions {
            self.empty.push(behind..region.start);
            behind = region.end;
            if region.categories & self.guard != 0 {
                self.guards.push(region.start..region.end);
                continue;
            }
            // A page of a private file mapping that was given back while it was write-protected leaves a marker that looks
            // like swap: it counts as changed.
            let marker = of_file && region.categories & category::SWAPPED != 0;
            if marker || region.categories & category::WRITTEN != 0 {
                self.changed.push(region.start..region.end);
            }
        }
        if result.is_ok() {
            self.empty.push(behind..range.end);
        }
        result
    }

    fn look(mut self) -> Look {
        for list in [&mut self.changed, &mut self.empty, &mut self.guards] {
            list.sort_unstable_by_key(|r| r.start);
        }
        Look {
            changed: PageSet::from_ascending(self.changed),
            empty: PageSet::from_ascending(self.empty),
            guards: PageSet::from_ascending(self.guards),
        }
    }
}

/// Written pages with no more than this between them are looked at together.
const NEAR: u64 = 16 * PAGE;

impl DirtyTracker for PagemapScan {
    fn name(&self) -> &'static str {
        "pagemap-scan"
    }

    fn forget(&mut self, pages: &PageSet) {
        self.registered = self.registered.without(pages);
    }

    fn look(&mut self, layout: &Layout, pagemap: &PageMap, rearm: bool) -> Result<Look> {
        let mut found = Found { guard: known_guard(pagemap), ..Found::default() };
        self.spans = spans(layout);
        // Neighbours of one sort, with nothing but small holes between them.
        let groups = layout.vmas.chunk_by(|a, b| {
            let near = b.start - a.end < STRIDE;
            near && has_own_pages(a) && has_own_pages(b) && is_of_file(a) == is_of_file(b)
        });
        for group in groups.filter(|g| g.first().is_some_and(has_own_pages)) {
            if !self.look_at_group(group, pagemap, rearm, &mut found)? {
                group.iter().try_for_each(|vma| self.look_at(vma, pagemap, rearm, &mut found))?;
            }
        }
        self.new.sort_unstable_by_key(|r| r.start);
        self.registered = self.registered.union(&PageSet::from_ascending(self.new.drain(..)));
        Ok(found.look())
    }
}

/// A tracker that cannot be had, with the reason.
pub fn unavailable(name: &str, why: impl std::fmt::Display) -> Error {
    Error::Refused(vec![format!("changed pages cannot be found by {name} here: {why}; use --tracker auto")])
}
