//! Which of a process's memory huge pages are behind (Documentation/admin-guide/mm/transhuge.rst).

use std::ops::Range;

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

/// The ranges that are huge pages, ascending. A kernel before Linux 6.7 tells of a mapping only how much; then it is all or nothing.
pub fn ranges(pagemap: &PageMap, mappings: &[Mapped]) -> Vec<(u64, u64)> {
    let told = pagemap.supports_scan();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for Mapped { range, huge } in mappings {
        let blocks = range.start.next_multiple_of(HUGE)..range.end / HUGE * HUGE;
        if !told {
            ranges.extend((blocks.end.checked_sub(blocks.start) == Some(*huge)).then_some((blocks.start, blocks.end)));
            continue;
        }
        let request = ScanRequest { all_of: category::HUGE, report: category::HUGE, ..ScanRequest::default() };
        let mut found = Vec::new();
        let mut at = blocks.start;
        while at < blocks.end {
            let end = blocks.end.min(at.saturating_add(STRIDE));
            // The program is only slower without.
            if let Err(error) = pagemap.scan(at..end, request, &mut found) {
                tracing::debug!("look for huge pages: {error}");
                break;
            }
            at = end;
        }
        for region in found {
            match ranges.last_mut() {
                Some((_, end)) if *end == region.start => *end = region.end,
                _ => ranges.push((region.start, region.end)),
            }
        }
    }
    ranges.truncate(MOST_RANGES);
    ranges
}
