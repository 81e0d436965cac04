//! Which pages must travel: those that hold something that the destination cannot know.
//!
//! Never: pages of files that were never written, zero pages that were never touched, special mappings of the kernel.

use std::ops::Range;

use migrate_linux::pagemap::{PageMap, PageRegion, ScanRequest, category};

use crate::error::{Doing, Result};
use crate::image::layout::{Backing, PAGE, Vma};

/// Whether a mapping's pages can differ from what the destination maps there by itself.
pub fn has_own_pages(vma: &Vma) -> bool {
    match vma.backing {
        Backing::Anonymous => true,
        Backing::File { .. } => !vma.shared,
        // Objects travel by themselves, whoever maps them; the kernel's own pages are the destination's.
        Backing::Object { .. } | Backing::Vdso | Backing::Vvar | Backing::VvarVclock => false,
    }
}

/// Whether a page of zeros differs from a page that was never touched.
pub fn zeros_matter(vma: &Vma) -> bool {
    vma.backing != Backing::Anonymous
}

/// The ranges of a mapping whose pages hold something of their own, ascending.
pub fn own_pages(pagemap: &PageMap, vma: &Vma, regions: &mut Vec<PageRegion>) -> Result<Vec<Range<u64>>> {
    regions.clear();
    let inverted = match vma.backing {
        Backing::Anonymous => category::PFNZERO,
        // A page that still is the file's own.
        _ => category::PFNZERO | category::FILE,
    };
    let request = ScanRequest {
        inverted,
        all_of: inverted,
        any_of: category::PRESENT | category::SWAPPED,
        ..ScanRequest::default()
    };
    pagemap
        .scan(vma.start..vma.end, request, regions)
        .map_err(std::io::Error::other)
        .doing(|| format!("scan the pages of {:x}-{:x}", vma.start, vma.end))?;
    Ok(regions.iter().map(|r| r.start..r.end).collect())
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
