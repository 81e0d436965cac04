//! Tracking by asynchronous write protection.

use std::ops::Range;

use migrate_linux::map_files;
use migrate_linux::pagemap::{PageMap, ScanError, ScanRequest};
use migrate_linux::userfaultfd::{UserFaultFd, feature};

use super::page_set::PageSet;
use super::scan::{Found, STRIDE, failed, is_of_file};
use super::select::has_own_pages;
use super::tracker::{DirtyTracker, Look};
use crate::error::{Doing, Result};
use crate::image::layout::{Backing, Layout, PAGE, TASK_SIZE, Vma};

/// Asynchronous write protection by a userfaultfd of the process's own address space, read and cleared by PAGEMAP_SCAN
/// (Linux 6.7; ioctl_userfaultfd(2), Documentation/admin-guide/mm/pagemap.rst).
///
/// Memory that the program maps later is not tracked until it is registered; memory whose place was unmapped and mapped anew looks
/// the same in /proc/PID/maps. The scan tells (EPERM), and then all of it counts as changed.
///
/// The kernel forgets a registration when the program moves a mapping beside a registered one and both are joined (mremap). Then
/// pages of either keep the mark of a write-protected page while they are written. So nothing that was found tracked in a look is
/// registered again in the same look, and marks are taken off before memory is armed that was not tracked.
#[derive(Debug)]
pub struct PagemapScan {
    userfaultfd: UserFaultFd,
    /// What was armed in the last look.
    tracked: PageSet,
    /// Pages of files' private mappings that held something of their own at the last look: one that is given back, and then read,
    /// is the file's again, and still looks write-protected and unwritten.
    of_files: PageSet,
}

impl PagemapScan {
    /// With a userfaultfd of the process's address space, fresh from userfaultfd(2).
    pub fn new(userfaultfd: UserFaultFd) -> Result<PagemapScan> {
        userfaultfd.api(feature::TRACKING).doing(|| "enable asynchronous write protection (Linux 6.7)".into())?;
        Ok(PagemapScan { userfaultfd, tracked: PageSet::default(), of_files: PageSet::default() })
    }

    /// Looks at what is tracked of all mappings. Returns what is, and what is not.
    fn look_at_tracked<'l>(&self, layout: &'l Layout, step: &Step, found: &mut Found) -> Result<Parts<'l>> {
        let mut parts = Parts::default();
        // Neighbours of one sort, with nothing but small holes between them.
        let groups = layout.vmas.chunk_by(|a, b| {
            let near = b.start - a.end < STRIDE;
            near && has_own_pages(a) && has_own_pages(b) && is_of_file(a) == is_of_file(b)
        });
        for group in groups.filter(|g| g.first().is_some_and(has_own_pages)) {
            self.look_at_group(group, step, found, &mut parts)?;
        }
        Ok(parts)
    }

    /// Looks at neighbours in one go when all of them are tracked, and so is what else lies between them; else at each half of them.
    fn look_at_group<'l>(&self, group: &'l [Vma], step: &Step, found: &mut Found, parts: &mut Parts<'l>) -> Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        if group.iter().all(|v| self.tracked.covers(&(v.start..v.end))) {
            match self.scan_written(first.start..last.end, group, step, found) {
                Ok(()) => {
                    parts.tracked.extend(group.iter().map(|v| v.start..v.end));
                    return Ok(());
                }
                Err(ScanError::Untracked { .. }) => found.settle(),
                Err(e) => return Err(failed(first, e)),
            }
        }
        if group.len() == 1 {
            return self.look_at(first, step, found, parts);
        }
        let (low, high) = group.split_at(group.len() / 2);
        self.look_at_group(low, step, found, parts)?;
        self.look_at_group(high, step, found, parts)
    }

    /// Looks at one mapping, which may be tracked in part, or no longer.
    fn look_at<'l>(&self, vma: &'l Vma, step: &Step, found: &mut Found, parts: &mut Parts<'l>) -> Result<()> {
        let whole = PageSet::from_ascending(std::iter::once(vma.start..vma.end));
        let tracked = whole.common(&self.tracked);
        for part in tracked.ranges() {
            match self.scan_written(part.clone(), std::slice::from_ref(vma), step, found) {
                Ok(()) => parts.tracked.push(part.clone()),
                // Mapped anew since.
                Err(ScanError::Untracked { .. }) => {
                    found.settle();
                    parts.new.push((part.clone(), vma));
                }
                Err(e) => return Err(failed(vma, e)),
            }
        }
        parts.new.extend(whole.without(&tracked).ranges().iter().map(|part| (part.clone(), vma)));
        Ok(())
    }

    fn scan_written(
        &self,
        range: Range<u64>,
        group: &[Vma],
        step: &Step,
        found: &mut Found,
    ) -> std::result::Result<(), ScanError> {
        let of_file = group.first().is_some_and(is_of_file);
        let middle = group.get(group.len() / 2).map_or(range.start, |vma| vma.start.max(range.start));
        let suspects = if of_file { self.of_files.within(&range) } else { PageSet::default() };
        found.scan_written(range, (group.len(), middle), of_file, &suspects, step.pagemap, step.rearm)
    }

    /// Registers the stretches in which there is something new. Returns those that could be.
    ///
    /// Never a mapping by its own bounds: the program may have another one there by now, and registering a part of a mapping splits
    /// it, which the program sees (mremap fails with EFAULT). A stretch ends where something begins that is tracked already, or
    /// cannot be; where that is no longer there, the stretch is left for the next look, and unregistered where it went meanwhile.
    fn register(&self, layout: &Layout, parts: &Parts, pagemap: &PageMap) -> PageSet {
        let others = layout.vmas.iter().filter(|v| !has_own_pages(v)).map(Border::Other);
        let mut borders: Vec<Border> = parts.tracked.iter().cloned().map(Border::Tracked).chain(others).collect();
        borders.sort_unstable_by_key(|b| b.range().start);
        let mut stretches: Vec<Stretch> = Vec::new();
        for (part, _) in &parts.new {
            let at = borders.partition_point(|b| b.range().end <= part.start);
            let stretch = Stretch { below: borders[..at].last(), above: borders.get(at) };
            if stretches.last().is_none_or(|last| last.range() != stretch.range()) {
                stretches.push(stretch);
            }
        }
        stretches.sort_unstable_by_key(|s| s.range().start);
        stretches.dedup_by_key(|s| s.range());
        let registered = stretches.into_iter().filter(|stretch| {
            if !stretch.is_bounded(pagemap) || self.userfaultfd.register_wp(stretch.range()).is_err() {
                return false;
            }
            let bounded = stretch.is_bounded(pagemap);
            if !bounded {
                // It fails only where there is nothing registered any more, or what cannot be.
                let _ = self.userfaultfd.unregister(stretch.range());
            }
            bounded
        });
        PageSet::from_ascending(registered.map(|stretch| stretch.range()))
    }

    /// Finds all that is there, and arms it.
    fn arm(&self, part: Range<u64>, vma: &Vma, step: &Step, found: &mut Found) -> std::result::Result<(), ScanError> {
        found.marked.clear();
        found.scan_all(part, is_of_file(vma), step.pagemap, true)?;
        for Range { start, end } in std::mem::take(&mut found.marked) {
            // The scan passed them over.
            let untracked = |_| ScanError::Untracked { pid: step.pagemap.pid(), start, end };
            self.userfaultfd.write_protect(start..end, false).map_err(untracked)?;
            found.scan_all(start..end, is_of_file(vma), step.pagemap, true)?;
        }
        Ok(())
    }
}

/// What a stretch of addresses ends at.
enum Border<'l> {
    /// Registered already, as it was found in this look.
    Tracked(Range<u64>),
    /// Nothing to register.
    Other(&'l Vma),
}

impl Border<'_> {
    fn range(&self) -> Range<u64> {
        match self {
            Border::Tracked(range) => range.clone(),
            Border::Other(vma) => vma.start..vma.end,
        }
    }

    /// Whether it still is at its first page, or at its last.
    fn is_there(&self, page: Range<u64>, pagemap: &PageMap) -> bool {
        match self {
            Border::Tracked(_) => {
                let request = ScanRequest { check_tracked: true, ..ScanRequest::default() };
                pagemap.scan(page, request, &mut Vec::new()).is_ok()
            }
            Border::Other(vma) => match vma.backing {
                Backing::Vdso | Backing::Vvar | Backing::VvarVclock => true,
                _ => map_files::is_mapped(pagemap.pid(), vma.start, vma.end),
            },
        }
    }
}

/// All addresses between two borders.
struct Stretch<'b> {
    below: Option<&'b Border<'b>>,
    above: Option<&'b Border<'b>>,
}

impl Stretch<'_> {
    fn range(&self) -> Range<u64> {
        let start = self.below.map_or(PAGE, |border| border.range().end);
        start..self.above.map_or(TASK_SIZE, |border| border.range().start)
    }

    /// Whether no mapping reaches over its ends.
    fn is_bounded(&self, pagemap: &PageMap) -> bool {
        let Range { start, end } = self.range();
        self.below.is_none_or(|border| border.is_there(start - PAGE..start, pagemap))
            && self.above.is_none_or(|border| border.is_there(end..end + PAGE, pagemap))
    }
}

/// What there is to a look.
struct Step<'p> {
    pagemap: &'p PageMap,
    rearm: bool,
}

/// What of the mappings is tracked, and what is new.
#[derive(Default)]
struct Parts<'l> {
    tracked: Vec<Range<u64>>,
    new: Vec<(Range<u64>, &'l Vma)>,
}

impl DirtyTracker for PagemapScan {
    fn name(&self) -> &'static str {
        "pagemap-scan"
    }

    fn forget(&mut self, pages: &PageSet) {
        self.tracked = self.tracked.without(pages);
    }

    fn look(&mut self, layout: &Layout, pagemap: &PageMap, rearm: bool) -> Result<Look> {
        let step = Step { pagemap, rearm };
        let mut found = Found::new(pagemap);
        let mut parts = self.look_at_tracked(layout, &step, &mut found)?;
        let registered = if rearm { self.register(layout, &parts, pagemap) } else { PageSet::default() };
        for (part, vma) in std::mem::take(&mut parts.new) {
            if registered.covers(&part) {
                match self.arm(part.clone(), vma, &step, &mut found) {
                    Ok(()) => {
                        parts.tracked.push(part);
                        continue;
                    }
                    // Mapped anew since. What was found is kept; for the next look it is new, too.
                    Err(ScanError::Untracked { .. }) => found.settle(),
                    Err(e) => return Err(failed(vma, e)),
                }
            }
            found.scan_all(part, is_of_file(vma), pagemap, false).map_err(|e| failed(vma, e))?;
        }
        parts.tracked.sort_unstable_by_key(|r| r.start);
        self.tracked = PageSet::from_ascending(parts.tracked);
        found.of_files.sort_unstable_by_key(|r| r.start);
        self.of_files = PageSet::from_ascending(found.of_files.drain(..));
        Ok(found.look())
    }
}
