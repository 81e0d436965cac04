//! Which pages must travel: those that hold something that the destination cannot know.
//!
//! Never: pages of files that were never written, zero pages that were never touched, special mappings of the kernel.

use std::ops::Range;

use crate::image::layout::{Backing, PAGE, Vma};

/// Whether a mapping's pages can differ from what the destination maps there by itself.
pub fn has_own_pages(vma: &Vma) -> bool {
    match vma.backing {
        Backing::Anonymous => true,
        // What is behind them travels by itself, or is there already.
        Backing::File { .. } | Backing::Object { .. } => !vma.shared,
        // The kernel's own pages are the destination's.
        Backing::Vdso | Backing::Vvar | Backing::VvarVclock => false,
    }
}

/// Whether a page of zeros differs from a page that was never touched.
pub fn zeros_matter(vma: &Vma) -> bool {
    vma.backing != Backing::Anonymous
}

/// The parts of a file that are not holes, in whole pages, ascending (lseek(2), SEEK_DATA).
pub fn data_ranges(file: &std::fs::File) -> std::io::Result<Vec<Range<u64>>> {
    use nix::errno::Errno;
    use nix::unistd::{Whence, lseek};
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let start = match lseek(file, at, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => return Ok(ranges),
            Err(e) => return Err(e.into()),
        };
        let end = lseek(file, start, Whence::SeekHole)?;
        ranges.push(start as u64 & !(PAGE - 1)..(end as u64).next_multiple_of(PAGE));
        at = end;
    }
}
