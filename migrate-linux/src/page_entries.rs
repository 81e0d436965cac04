//! The entries of /proc/PID/pagemap, one by one: what kernels without `PAGEMAP_SCAN` tell of pages, and which frame each one is.
//!
//! Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::pagemap::{PAGE_SIZE, PageMap};

/// What one entry tells of its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    const FRAME: u64 = (1 << 55) - 1;
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;

    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// In memory.
    pub fn present(self) -> bool {
        self.0 & Entry::PRESENT != 0
    }

    /// In swap, or on its way to another place in memory; a guard page too.
    pub fn swapped(self) -> bool {
        self.0 & Entry::SWAPPED != 0
    }

    /// Not the process's own: a page of a file or of shared memory, or the huge page of zeros.
    pub fn file(self) -> bool {
        self.has(61)
    }

    /// A guard page, MADV_GUARD_INSTALL (Linux 6.15).
    pub fn guard(self) -> bool {
        self.has(58)
    }

    /// In memory, and in no other page table. Never the page of zeros.
    pub fn exclusive(self) -> bool {
        self.has(56)
    }

    /// Written since [`clear_soft_dirty`](crate::pagemap::clear_soft_dirty), or in a mapping that was made since.
    pub fn soft_dirty(self) -> bool {
        self.has(55)
    }

    /// Where its content is: the frame of memory, or the place in swap. 0: the reader may not know, or there is none.
    pub fn place(self) -> u64 {
        self.0 & (Entry::PRESENT | Entry::SWAPPED | Entry::FRAME)
    }

    /// Whether [`Entry::place`] tells a frame or a place in swap.
    pub fn has_place(self) -> bool {
        self.0 & Entry::FRAME != 0
    }
}

/// Entries that are read in one go: of 32 MiB of addresses.
const AT_ONCE: u64 = 8192;

impl PageMap {
    /// Reads the entries of a range of addresses (multiples of [`PAGE_SIZE`]) piece by piece. Each piece ends at the range's end or
    /// at a multiple of `step` bytes.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read_entries(
        &self,
        range: Range<u64>,
        step: u64,
        mut see: impl FnMut(Range<u64>, &[Entry]),
    ) -> io::Result<()> {
        let at_once = (AT_ONCE * PAGE_SIZE).max(step);
        let mut bytes = Vec::new();
        let mut entries = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(at_once) / step * step);
            bytes.resize(((end - at) / PAGE_SIZE * 8) as usize, 0);
            self.read_exact_at(&mut bytes, at / PAGE_SIZE * 8)?;
            entries.clear();
            entries.extend(bytes.as_chunks().0.iter().map(|entry| Entry(u64::from_ne_bytes(*entry))));
            let mut rest = entries.as_slice();
            while !rest.is_empty() {
                let next = end.min((at / step + 1) * step);
                let (piece, behind) = rest.split_at(((next - at) / PAGE_SIZE) as usize);
                see(at..next, piece);
                (at, rest) = (next, behind);
            }
        }
        Ok(())
    }

    /// The page of zeros that is mapped wherever memory is read before it is written. None: it cannot be told; frames are for
    /// CAP_SYS_ADMIN alone.
    pub fn zero_page() -> Option<Entry> {
        let own = PageMap::open(std::process::id() as i32).ok()?;
        let length = NonZeroUsize::new(PAGE_SIZE as usize)?;
        // SAFETY: a new mapping at a place of the kernel's choice, which nothing else knows of.
        let page = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE) }.ok()?;
        // SAFETY: the mapping is there and may be read; every byte of it is a u8.
        std::hint::black_box(unsafe { page.cast::<u8>().read_volatile() });
        let mut bytes = [0; 8];
        let read = own.read_exact_at(&mut bytes, page.as_ptr() as u64 / PAGE_SIZE * 8);
        // SAFETY: what was mapped above, and nothing refers to it any more.
        let unmapped = unsafe { munmap(page, length.get()) };
        read.ok()?;
        unmapped.ok()?;
        let entry = Entry(u64::from_ne_bytes(bytes));
        (entry.present() && entry.has_place() && !entry.exclusive() && !entry.file()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once_and_in_order() {
        let own = PageMap::open(std::process::id() as i32).unwrap();
        let step = 16 * PAGE_SIZE;
        let range = 3 * PAGE_SIZE..(5 * AT_ONCE + 7) * PAGE_SIZE;
        let mut next = range.start;
        let seen = own.read_entries(range.clone(), step, |part, entries| {
            assert_eq!(part.start, next);
            assert_eq!(entries.len() as u64, (part.end - part.start) / PAGE_SIZE);
            assert_eq!(part.start / step, (part.end - 1) / step);
            assert!(part.end % step == 0 || part.end == range.end);
            next = part.end;
        });
        seen.unwrap();
        assert_eq!(next, range.end);
    }

    #[test]
    fn a_page_that_was_only_read_is_the_page_of_zeros() {
        let Some(zero) = PageMap::zero_page() else {
            assert!(!nix::unistd::geteuid().is_root());
            println!("SKIPPED frames of pages: for CAP_SYS_ADMIN alone");
            return;
        };
        assert_eq!(PageMap::zero_page(), Some(zero));
        let mut written = vec![0_u8; 1 << 20];
        written.fill(std::hint::black_box(1));
        let own = PageMap::open(std::process::id() as i32).unwrap();
        let start = (written.as_ptr() as u64).next_multiple_of(PAGE_SIZE);
        let mut pages = 0;
        let seen = own.read_entries(start..start + 64 * PAGE_SIZE, PAGE_SIZE, |_, entries| {
            pages += 1;
            assert!(entries[0].present() && entries[0].has_place() && entries[0].place() != zero.place());
        });
        seen.unwrap();
        assert_eq!(pages, 64);
        std::hint::black_box(&written);
    }
}
