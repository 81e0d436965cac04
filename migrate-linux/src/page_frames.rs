//! Which blocks of memory are huge pages, where the kernel has no `PAGEMAP_SCAN` (before Linux 6.7): by the page frames behind them
//! (/proc/kpageflags; Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::pagemap::{PAGE_SIZE, PageMap};

/// Pages in a huge page.
const PAGES: u64 = 512;

/// In an entry of pagemap: the page is in memory, in this frame.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// In a word of kpageflags: the first of a compound page; a transparent huge page.
const COMPOUND_HEAD: u64 = 1 << 15;
const THP: u64 = 1 << 22;

/// What this host's page frames are used for.
#[derive(Debug)]
pub struct PageFrames(File);

impl PageFrames {
    /// # Errors
    /// The kernel does not tell (CONFIG_PROC_PAGE_MONITOR), or not this user.
    pub fn open() -> io::Result<PageFrames> {
        File::open("/proc/kpageflags").map(PageFrames)
    }

    /// Whether the 2 MiB of a process behind this address, a multiple of that, are one huge page. It may be mapped in pieces. The kernel may
    /// make it another one at any time.
    ///
    /// # Errors
    /// The kernel shows no page frames to this user (CAP_SYS_ADMIN), or the process has ended.
    pub fn is_huge(&self, pagemap: &PageMap, block: u64) -> io::Result<bool> {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, block / PAGE_SIZE * 8)?;
        let first = u64::from_ne_bytes(entry);
        if first & PRESENT == 0 {
            return Ok(false);
        }
        let frame = first & FRAME;
        if frame == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut flags = [0; 8];
        self.0.read_exact_at(&mut flags, frame * 8)?;
        let wanted = COMPOUND_HEAD | THP;
        if !frame.is_multiple_of(PAGES) || u64::from_ne_bytes(flags) & wanted != wanted {
            return Ok(false);
        }
        let mut entries = [0; PAGES as usize * 8];
        pagemap.read_exact_at(&mut entries, block / PAGE_SIZE * 8)?;
        let entries = entries.chunks_exact(8).map(|entry| u64::from_ne_bytes(entry.try_into().unwrap_or_default()));
        Ok((frame..).zip(entries).all(|(frame, entry)| entry & (PRESENT | FRAME) == PRESENT | frame))
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use super::*;
    use crate::pagemap::{ScanRequest, category};

    #[test]
    fn it_tells_what_a_scan_does() {
        const HUGE: usize = 2 << 20;
        const MADV_COLLAPSE: i32 = 25;
        let (frames, pagemap) = match PageFrames::open() {
            Ok(frames) => (frames, PageMap::open(std::process::id() as i32).unwrap()),
            Err(why) => return println!("SKIPPED page frames: {why}"),
        };
        // SAFETY: new memory, of which nobody else knows.
        let area = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(null_mut(), 4 * HUGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(area, libc::MAP_FAILED);
        let begin = (area as usize).next_multiple_of(HUGE);
        for at in (begin..begin + 2 * HUGE).step_by(4096) {
            // SAFETY: inside that memory.
            unsafe { (at as *mut u8).write_volatile(1) };
        }
        // SAFETY: the same bytes are there afterwards.
        if unsafe { libc::madvise((begin + HUGE) as *mut _, HUGE, MADV_COLLAPSE) } != 0 {
            return println!("SKIPPED page frames: this kernel makes no huge page (MADV_COLLAPSE)");
        }
        let request = ScanRequest { all_of: category::HUGE, report: category::HUGE, ..ScanRequest::default() };
        for block in [begin, begin + HUGE, begin + 2 * HUGE].map(|block| block as u64) {
            let mut found = Vec::new();
            if pagemap.supports_scan() {
                pagemap.scan(block..block + HUGE as u64, request, &mut found).unwrap();
                assert_eq!(frames.is_huge(&pagemap, block).unwrap(), !found.is_empty(), "{block:#x}");
            }
        }
        assert!(frames.is_huge(&pagemap, (begin + HUGE) as u64).unwrap());
        // SAFETY: it was made above.
        unsafe { libc::munmap(area, 4 * HUGE) };
    }
}
