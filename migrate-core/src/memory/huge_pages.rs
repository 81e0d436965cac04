//! Which of a process's memory huge pages are behind (Documentation/admin-guide/mm/transhuge.rst).

use std::ops::Range;

use migrate_linux::page_frames::PageFrames;
use migrate_linux::pagemap::{PageMap, ScanRequest, category};

use super::scan::STRIDE;

/// Bytes of a huge page on x86_64.
pub const HUGE: u64 = 2 << 20;

/// More blocks are not told of: then it is 2 TiB.
const MOST_RANGES: usize = 1 << 20;

/// A mapping, and how much of it huge pages were behind when smaps was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its addresses.
    pub range: Range<u64>,
    /// Bytes.
    pub huge: u64,
}

/// The ranges that are huge pages, ascending. Those that cannot be told are left out: the program is only slower without.
pub fn ranges(pagemap: &PageMap, mappings: &[Mapped]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for Mapped { range, huge } in mappings {
        let blocks = range.start.next_multiple_of(HUGE)..range.end / HUGE * HUGE;
        let found = match pagemap.supports_scan() {
            true => scanned(pagemap, blocks),
            // A kernel before Linux 6.7 shows of a mapping only how much.
            false if blocks.end.checked_sub(blocks.start) == Some(*huge) => vec![(blocks.start, blocks.end)],
            false => by_frames(pagemap, blocks),
        };
        for (start, end) in found {
            match ranges.last_mut() {
                Some((_, last)) if *last == start => *last = end,
                _ => ranges.push((start, end)),
            }
        }
    }
    ranges.truncate(MOST_RANGES);
    ranges
}

fn scanned(pagemap: &PageMap, blocks: Range<u64>) -> Vec<(u64, u64)> {
    let request = ScanRequest { all_of: category::HUGE, report: category::HUGE, ..ScanRequest::default() };
    let mut found = Vec::new();
    let mut at = blocks.start;
    while at < blocks.end {
        let end = blocks.end.min(at.saturating_add(STRIDE));
        if let Err(error) = pagemap.scan(at..end, request, &mut found) {
            tracing::debug!("look for huge pages: {error}");
            break;
        }
        at = end;
    }
    found.into_iter().map(|region| (region.start, region.end)).collect()
}

fn by_frames(pagemap: &PageMap, blocks: Range<u64>) -> Vec<(u64, u64)> {
    let look = || {
        let frames = PageFrames::open()?;
        let mut found = Vec::new();
        for block in blocks.step_by(HUGE as usize) {
            if frames.is_huge(pagemap, block)? {
                found.push((block, block + HUGE));
            }
        }
        Ok::<_, std::io::Error>(found)
    };
    look().inspect_err(|error| tracing::debug!("look for huge pages: {error}")).unwrap_or_default()
}
