//! Changed pages by soft-dirty bits, for kernels before 6.7 (Documentation/admin-guide/mm/soft-dirty.rst).
//!
//! Writing to /proc/PID/clear_refs clears the bit of every page and write-protects it; the first write afterwards sets the bit. Where
//! the bits alone would lose a page:
//!
//! - *Reading and clearing are two steps.* A page that is written in between loses its bit without having been seen. So the process
//!   stands still from before the first bit is read until all are cleared ([`DirtyTracker::stops_to_rearm`]): of its own threads
//!   none writes then, and none has a read(2) in flight that the disk completes past the page tables, because a thread inside one
//!   stops only when it is over. (A write by another process, process_vm_writev(2), can be lost in that moment, as it can be in the
//!   freeze.) It stands for about 30 ms a GiB each time, which the report says.
//! - *Memory mapped after the layout was read* is not looked at, but its bits are cleared too. What was not looked at before counts
//!   as changed when it comes up.
//! - *mremap(2) of whole page tables* (2 MiB, `move_normal_pmd`, mm/mremap.c) takes clean pages along to an address where others
//!   were before, and perhaps back again, and the mappings look the same as ever. So mappings are registered with a userfaultfd,
//!   which protects nothing: one that is moved is registered no longer (`mremap_userfaultfd_prep`, fs/userfaultfd.c), nor is a new
//!   one, and all of it counts as changed.
//! - *KSM* replaces a page by an equal one that is shared, and the bit is gone (`replace_page`, mm/ksm.c). While the process has such
//!   pages no bit is believed.
//! - *Memory given back and then only read* (MADV_DONTNEED) is the page of zeros or the file's page: present and clean. It is told
//!   from pages of the process's own, and counts as empty.

use std::fs;
use std::ops::Range;

use migrate_linux::page_entries::Entry;
use migrate_linux::pagemap::{PageMap, clear_soft_dirty, supports_soft_dirty};
use migrate_linux::userfaultfd::UserFaultFd;

use super::page_set::PageSet;
use super::select::has_own_pages;
use super::tracker::{DirtyTracker, Look, unavailable};
use crate::error::{Doing, Result};
use crate::image::layout::{Backing, Layout, PAGE, Vma};

/// Pages are looked at in stretches of this many bytes.
const STRETCH: u64 = 512 * PAGE;

/// Changed pages by soft-dirty bits. The process must stand still while it is made, and in every look that rearms but the first; the
/// layout must be read while it stands.
#[derive(Debug)]
pub struct SoftDirty {
    pid: i32,
    /// Of the process's address space. It must never protect a page: nobody answers.
    userfaultfd: UserFaultFd,
    /// Until the first look.
    fresh: bool,
    /// The page of zeros.
    zero: Entry,
    /// What was looked at when the bits were cleared last.
    known: PageSet,
}

impl SoftDirty {
    /// Whether it can be had here; then, the page of zeros.
    pub fn probe() -> Result<Entry> {
        match supports_soft_dirty() {
            Ok(true) => {}
            Ok(false) => return Err(unavailable("soft-dirty", "this kernel has none (CONFIG_MEM_SOFT_DIRTY)")),
            Err(e) => return Err(unavailable("soft-dirty", e)),
        }
        PageMap::zero_page().ok_or_else(|| unavailable("soft-dirty", "the frames of pages are for CAP_SYS_ADMIN alone"))
    }

    /// Begins: from now on, what a process writes is seen. `zero`: as [`SoftDirty::probe`] found. `userfaultfd`: of the process's
    /// address space, fresh from userfaultfd(2).
    pub fn begin(pid: i32, zero: Entry, userfaultfd: UserFaultFd, layout: &Layout) -> Result<SoftDirty> {
        userfaultfd.api(0).doing(|| "use a userfaultfd of the process".into())?;
        let tracker = SoftDirty { pid, userfaultfd, fresh: true, zero, known: PageSet::default() };
        layout.vmas.iter().filter(|v| is_anonymous(v)).for_each(|vma| tracker.register(vma));
        clear_soft_dirty(pid).doing(|| "begin to track changed pages".into())?;
        Ok(tracker)
    }

    /// By its exact bounds: else it would be split, which the program could see. One that cannot be registered counts as changed
    /// every time.
    fn register(&self, vma: &Vma) {
        let _ = self.userfaultfd.register_wp(vma.start..vma.end);
    }

    /// Whether it is the mapping, or grown from the mapping, that was registered. Lifting a protection that is not there fails
    /// where nothing is registered, and does nothing else.
    fn is_registered(&self, vma: &Vma) -> bool {
        self.userfaultfd.write_protect(vma.start..vma.start + PAGE, false).is_ok()
    }
}

/// Whether it can be registered: mappings of files cannot (before Linux 6.7).
fn is_anonymous(vma: &Vma) -> bool {
    has_own_pages(vma) && vma.backing == Backing::Anonymous
}

impl DirtyTracker for SoftDirty {
    fn name(&self) -> &'static str {
        "soft-dirty"
    }

    fn forget(&mut self, pages: &PageSet) {
        self.known = self.known.without(pages);
    }

    fn stops_to_rearm(&self) -> bool {
        !self.fresh
    }

    fn look(&mut self, layout: &Layout, pagemap: &PageMap, rearm: bool) -> Result<Look> {
        let mut found = Found::default();
        let none_merged = !has_merged_pages(self.pid);
        for vma in layout.vmas.iter().filter(|v| has_own_pages(v)) {
            let anonymous = is_anonymous(vma);
            let tracked = anonymous && self.is_registered(vma);
            let read = pagemap.read_entries(vma.start..vma.end, STRETCH, |part, entries| {
                let bits_hold = tracked && none_merged && self.known.covers(&part);
                found.sort(&part, entries, !anonymous, self.zero, bits_hold);
            });
            read.doing(|| format!("look for changed pages in {:x}-{:x}", vma.start, vma.end))?;
            if rearm && !self.fresh && anonymous && !tracked {
                self.register(vma);
            }
        }
        if rearm {
            if !self.fresh {
                clear_soft_dirty(self.pid).doing(|| "go on tracking changed pages".into())?;
            }
            self.fresh = false;
            let looked_at = layout.vmas.iter().filter(|v| has_own_pages(v));
            self.known = PageSet::from_ascending(looked_at.map(|v| v.start..v.end));
        }
        Ok(found.look())
    }
}

/// Whether KSM has merged pages of a process. A kernel that does not tell (before 5.19): whether it may have.
fn has_merged_pages(pid: i32) -> bool {
    let number = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim() != "0");
    number(&format!("/proc/{pid}/ksm_merging_pages")).or_else(|| number("/sys/kernel/mm/ksm/run")).unwrap_or(false)
}

/// What a look has found, in the order of addresses.
#[derive(Debug, Default)]
struct Found {
    changed: Vec<Range<u64>>,
    empty: Vec<Range<u64>>,
    guards: Vec<Range<u64>>,
}

impl Found {
    /// Sorts the pages of one stretch. `bits_hold`: all that changed there since the last look has its bit set.
    fn sort(&mut self, part: &Range<u64>, entries: &[Entry], of_file: bool, zero: Entry, bits_hold: bool) {
        for (start, entry) in (part.start..part.end).step_by(PAGE as usize).zip(entries) {
            let of_others = entry.file() || !of_file && !entry.exclusive() && entry.place() == zero.place();
            let list = if entry.guard() {
                &mut self.guards
            } else if !entry.swapped() && (!entry.present() || of_others) {
                &mut self.empty
            } else if !bits_hold || entry.soft_dirty() {
                &mut self.changed
            } else {
                continue;
            };
            match list.last_mut() {
                Some(last) if last.end == start => last.end = start + PAGE,
                _ => list.push(start..start + PAGE),
            }
        }
    }

    fn look(self) -> Look {
        Look {
            changed: PageSet::from_ascending(self.changed),
            empty: PageSet::from_ascending(self.empty),
            guards: PageSet::from_ascending(self.guards),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Entry = Entry(1 << 63 | 7);

    /// A page of the process's own in a frame.
    fn page(frame: u64) -> Entry {
        Entry(1 << 63 | 1 << 56 | frame)
    }

    fn written(entry: Entry) -> Entry {
        Entry(entry.0 | 1 << 55)
    }

    fn swapped(place: u64) -> Entry {
        Entry(1 << 62 | place)
    }

    /// A page of a file, in memory.
    fn of_a_file(frame: u64) -> Entry {
        Entry(1 << 63 | 1 << 61 | frame)
    }

    const NOTHING: Entry = Entry(0);
    const GUARD: Entry = Entry(1 << 62 | 1 << 58 | 3);

    fn sorted(entries: &[Entry], of_file: bool, bits_hold: bool) -> [Vec<u64>; 3] {
        let mut found = Found::default();
        let part = 16 * PAGE..(16 + entries.len() as u64) * PAGE;
        found.sort(&part, entries, of_file, ZERO, bits_hold);
        let look = found.look();
        [look.changed, look.empty, look.guards].map(|set| {
            let pages = set.ranges().iter().flat_map(|r| r.clone().step_by(PAGE as usize));
            pages.map(|address| address / PAGE - 16).collect()
        })
    }

    #[test]
    fn pages_are_what_their_entries_say() {
        let forked = Entry(1 << 63 | 9);
        let entries = [
            page(1),
            written(page(2)),
            NOTHING,
            written(NOTHING),
            swapped(4),
            written(swapped(5)),
            ZERO,
            of_a_file(6),
            GUARD,
            forked,
        ];
        // A mapping of anonymous memory: the huge page of zeros looks like a file's.
        assert_eq!(sorted(&entries, false, true), [vec![1, 5], vec![2, 3, 6, 7], vec![8]]);
        assert_eq!(sorted(&entries, false, false), [vec![0, 1, 4, 5, 9], vec![2, 3, 6, 7], vec![8]]);
        // A private mapping of a file: a page of zeros in there was put there.
        assert_eq!(sorted(&entries, true, false)[0], [0, 1, 4, 5, 6, 9]);
        assert_eq!(sorted(&entries, true, true)[1], [2, 3, 7]);
    }
}
