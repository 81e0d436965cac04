//! What one huge page was behind there becomes one here too. Pages arrive one by one, and the kernel gives a huge page by itself only
//! where it is asked for (MADV_HUGEPAGE), or everywhere (/sys/kernel/mm/transparent_hugepage/enabled): so not where the program had it
//! made (MADV_COLLAPSE), nor what a host that gives them everywhere has given. It is done beside the copying, and given up for the
//! freeze: without it the program is only slower.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use migrate_linux::pidfd::PidFd;
use migrate_linux::process_memory::ProcessMemory;

use crate::image::layout::{Backing, Layout, TASK_SIZE};
use crate::memory::huge_pages::HUGE;

/// Made in one call, which waits for every CPU once.
const PIECE: u64 = 16 * HUGE;

/// A block that a page is just being put into fails.
const TRIES: usize = 4;

/// A thread of this process that makes them. Dropped, it ends soon.
#[derive(Debug, Default)]
pub struct Collapsing {
    enough: Arc<AtomicBool>,
}

impl Collapsing {
    /// Begins to make huge pages of ranges of a process's memory, to which no page has come yet. Only private memory without a file is
    /// touched, whatever another host names.
    pub fn begin(process: PidFd, memory: &ProcessMemory, layout: &Layout, ranges: &[(u64, u64)]) -> Collapsing {
        let collapsing = Collapsing::default();
        if given_everywhere() {
            return collapsing;
        }
        // Nothing is made of a block without a page that was written.
        let touched = |piece: &Range<u64>| {
            let mut blocks = piece.clone().step_by(HUGE as usize);
            blocks.try_for_each(|block| memory.write(block, &[0])).inspect_err(|e| not_made(piece, e)).is_ok()
        };
        let all = ranges.iter().flat_map(|&(start, end)| pieces(start, end)).filter(|piece| is_private(layout, piece));
        let touched: Vec<Range<u64>> = all.filter(touched).collect();
        if touched.is_empty() {
            return collapsing;
        }
        let enough = collapsing.enough.clone();
        let work = move || {
            let mut left = touched;
            for _ in 0..TRIES {
                left.retain(|piece| {
                    let made = || process.collapse(piece.clone()).inspect_err(|e| not_made(piece, e)).is_ok();
                    !enough.load(Ordering::Relaxed) && !made()
                });
            }
        };
        if let Err(error) = std::thread::Builder::new().name("huge pages".into()).spawn(work) {
            tracing::debug!("start a thread: {error}");
        }
        collapsing
    }

    /// What is not one by now stays as it is.
    pub fn stop(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

impl Drop for Collapsing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whole blocks inside the range, which another host has named.
fn pieces(start: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
    let (mut at, end) = (start.min(TASK_SIZE).next_multiple_of(HUGE), end.min(TASK_SIZE) / HUGE * HUGE);
    std::iter::from_fn(move || {
        let piece = (at < end).then(|| at..end.min(at + PIECE))?;
        at = piece.end;
        Some(piece)
    })
}

fn is_private(layout: &Layout, piece: &Range<u64>) -> bool {
    let vma = layout.vmas.get(layout.vmas.partition_point(|vma| vma.end <= piece.start));
    vma.is_some_and(|vma| vma.backing == Backing::Anonymous && vma.start <= piece.start && piece.end <= vma.end)
}

fn not_made(piece: &Range<u64>, error: &io::Error) {
    tracing::debug!("huge pages at {:#x}-{:#x}: {error}", piece.start, piece.end);
}

/// Whether the kernel gives them by itself.
pub fn given_everywhere() -> bool {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    enabled.is_ok_and(|text| text.contains("[always]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_named_whole_blocks_are_taken() {
        let all = |start, end| pieces(start, end).collect::<Vec<_>>();
        assert!(all(HUGE - 1, 3 * HUGE + 1).iter().eq([&(HUGE..3 * HUGE)]));
        assert_eq!(all(0, PIECE + HUGE), [0..PIECE, PIECE..PIECE + HUGE]);
        for (start, end) in [(0, HUGE - 1), (3 * HUGE, HUGE), (1, HUGE), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
            assert_eq!(all(start, end), [], "{start:#x} {end:#x}");
        }
        assert!(pieces(TASK_SIZE - HUGE, u64::MAX).all(|piece| piece.end <= TASK_SIZE));
    }
}
