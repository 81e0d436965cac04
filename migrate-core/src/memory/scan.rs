//! Scans of a process's pages, and what a look made of several of them has found.

use std::ops::Range;

use migrate_linux::pagemap::{PageMap, PageRegion, ScanError, ScanRequest, category};

use super::page_set::PageSet;
use super::tracker::Look;
use crate::error::Error;
use crate::image::layout::{Backing, PAGE, Vma};
use crate::in_two::both;

/// Bytes looked at in one go: the scan holds the address space's lock, and an mmap of the program waits.
pub const STRIDE: u64 = 256 << 20;

/// Whether pages of a mapping may be a file's.
pub fn is_of_file(vma: &Vma) -> bool {
    vma.backing != Backing::Anonymous
}

/// A scan of a mapping that failed.
pub fn failed(vma: &Vma, error: ScanError) -> Error {
    Error::io(format!("look for changed pages in {:x}-{:x}", vma.start, vma.end), std::io::Error::other(error))
}

/// What the scans of one look have found, about in the order of addresses.
#[derive(Default)]
pub struct Found {
    /// By scans that had to be begun again: what the lists below say of the same pages is newer.
    before: Look,
    regions: Vec<PageRegion>,
    changed: Vec<Range<u64>>,
    empty: Vec<Range<u64>>,
    guards: Vec<Range<u64>>,
    /// Pages of files' mappings that hold something of their own, changed or not.
    pub of_files: Vec<Range<u64>>,
    /// Pages that are marked as armed already, though nothing of what was scanned was tracked.
    pub marked: Vec<Range<u64>>,
    /// [`category::GUARD`], where the kernel knows it.
    guard: u64,
}

/// [`category::GUARD`] where the kernel knows it, else 0: then guard pages look like swap, and reading them fails.
fn known_guard(pagemap: &PageMap) -> u64 {
    let request = ScanRequest { all_of: category::GUARD, report: category::GUARD, ..ScanRequest::default() };
    let probe = pagemap.supports_scan() && pagemap.scan(PAGE..2 * PAGE, request, &mut Vec::new()).is_ok();
    if probe { category::GUARD } else { 0 }
}

/// What has been written since it was armed, and what never was there.
fn written(range: Range<u64>, pagemap: &PageMap) -> std::result::Result<Vec<PageRegion>, ScanError> {
    let written = category::WRITTEN;
    let request = ScanRequest { all_of: written, report: written, check_tracked: true, ..ScanRequest::default() };
    let mut regions = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at.saturating_add(STRIDE));
        pagemap.scan(at..end, request, &mut regions)?;
        at = end;
    }
    Ok(regions)
}

/// Pages that hold something; in a file's mapping, something other than the file.
fn own_pages(of_file: bool) -> ScanRequest {
    let inverted = if of_file { category::PFNZERO | category::FILE } else { category::PFNZERO };
    ScanRequest { inverted, all_of: inverted, any_of: category::PRESENT | category::SWAPPED, ..ScanRequest::default() }
}

impl Found {
    /// Nothing yet.
    pub fn new(pagemap: &PageMap) -> Found {
        Found { guard: known_guard(pagemap), ..Found::default() }
    }

    /// All that is there has changed. `arm`: from now on it is tracked.
    pub fn scan_all(
        &mut self,
        range: Range<u64>,
        of_file: bool,
        pagemap: &PageMap,
        arm: bool,
    ) -> std::result::Result<(), ScanError> {
        let report = self.guard | if arm { category::WRITTEN } else { 0 };
        let request = ScanRequest { report, write_protect: arm, check_tracked: arm, ..own_pages(of_file) };
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
                if arm && region.categories & category::WRITTEN == 0 {
                    self.marked.push(pages.clone());
                }
                if of_file {
                    self.of_files.push(pages.clone());
                }
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
    /// every page, 27 ms a GiB). Pages that were never there count as written, so a second one looks closer at those alone, and at
    /// the suspects. The first takes half a microsecond for each of `mappings`: where they are many, two OS threads share it, each
    /// on its side of the address `middle`.
    pub fn scan_written(
        &mut self,
        range: Range<u64>,
        (mappings, middle): (usize, u64),
        of_file: bool,
        suspects: &PageSet,
        pagemap: &PageMap,
        rearm: bool,
    ) -> std::result::Result<(), ScanError> {
        let (low, high) = (|| written(range.start..middle, pagemap), || written(middle..range.end, pagemap));
        // So much less than a system call for each.
        let (low, high) = both(mappings / 8, low, high).map_err(|why| ScanError::Kernel {
            pid: pagemap.pid(),
            start: range.start,
            end: range.end,
            source: std::io::Error::other(why),
        })?;
        let candidates = low?.into_iter().chain(high?);
        let candidates = PageSet::from_ascending(candidates.map(|r| r.start..r.end)).union(suspects);
        for near in candidates.ranges().chunk_by(|a, b| b.start - a.end <= NEAR) {
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
            if of_file {
                self.of_files.push(region.start..region.end);
            }
        }
        if result.is_ok() {
            self.empty.push(behind..range.end);
        }
        result
    }

    /// A scan has stopped half-way. The pages that it found may be write-protected by now, and no later scan finds those again; of
    /// others the next one may find something else, because the process runs.
    pub fn settle(&mut self) {
        let set = |list: &mut Vec<Range<u64>>| {
            list.sort_unstable_by_key(|r| r.start);
            PageSet::from_ascending(list.drain(..))
        };
        let newer =
            Look { changed: set(&mut self.changed), empty: set(&mut self.empty), guards: set(&mut self.guards) };
        self.before = std::mem::take(&mut self.before).followed_by(newer);
    }

    /// All that was found.
    pub fn look(mut self) -> Look {
        self.settle();
        self.before
    }
}

/// Written pages with no more than this between them are looked at together.
const NEAR: u64 = 16 * PAGE;
