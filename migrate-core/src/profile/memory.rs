//! How much of its memory a process changes, and when.

use std::time::Duration;

use serde::Serialize;

use crate::image::layout::PAGE;
use crate::memory::page_set::PageSet;

/// What was changed between two moments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interval {
    /// Its beginning, since that of the whole.
    pub at: Duration,
    /// Its length.
    pub took: Duration,
    /// How much had been changed a while after its beginning, ascending.
    pub early: Vec<(Duration, u64)>,
    /// How much was in all, bytes.
    pub bytes: u64,
    /// Which pages. None: there were too many to keep.
    pub pages: Option<PageSet>,
}

/// The intervals of one watch, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// How it was found.
    pub tracker: &'static str,
    /// How long the process stood still for that.
    pub stood: Duration,
    /// How long it stands still in a move besides what its memory takes.
    pub standing: Duration,
    /// Bytes of its memory that would have to be sent at the beginning.
    pub total: u64,
    /// What changed when.
    pub intervals: Vec<Interval>,
    /// All that changed.
    pub working_set: u64,
}

/// What a profile tells of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryUse {
    /// How changed pages were found: `pagemap-scan`, `soft-dirty` or `none`.
    pub tracker: &'static str,
    /// How long the process stood still for that, microseconds.
    pub stood_us: u64,
    /// Bytes of memory that would have to be sent at first.
    pub bytes: u64,
    /// Bytes of different pages that it changed in that time.
    pub working_set_bytes: u64,
    /// Pages that it changed in a second: in the whole, in the quietest interval, in the busiest.
    pub pages_per_s: u64,
    /// See `pages_per_s`.
    pub quietest_pages_per_s: u64,
    /// See `pages_per_s`.
    pub busiest_pages_per_s: u64,
    /// One after the other.
    pub intervals: Vec<IntervalUse>,
}

/// What it changed in one interval. A page that is changed again and again counts once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntervalUse {
    /// Its beginning, seconds.
    pub at_s: f64,
    /// Its length, seconds.
    pub s: f64,
    /// Bytes of different pages.
    pub bytes: u64,
    /// Those a second.
    pub pages_per_s: u64,
}

impl Interval {
    /// Bytes changed in a stretch of this length of it.
    fn within(&self, length: Duration) -> u64 {
        let mut before = (Duration::ZERO, 0);
        for &after in self.early.iter().chain([&(self.took, self.bytes)]) {
            if length <= after.0 {
                let part = (length - before.0).as_secs_f64() / (after.0 - before.0).as_secs_f64().max(1e-9);
                return before.1 + (after.1.saturating_sub(before.1) as f64 * part) as u64;
            }
            before = after;
        }
        self.bytes
    }

    /// Bytes changed in a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

fn pages_per_s(bytes_per_s: f64) -> u64 {
    (bytes_per_s / PAGE as f64).round() as u64
}

impl Series {
    /// For how long it was watched.
    pub fn length(&self) -> Duration {
        self.intervals.last().map_or(Duration::ZERO, |last| last.at + last.took)
    }

    /// How much was changed between two moments, a page that was changed more than once counting once. After the end it is taken to
    /// do the same once more.
    pub fn changed(&self, from: Duration, to: Duration) -> u64 {
        let length = self.length();
        if length.is_zero() || to <= from {
            return 0;
        }
        if to - from >= length {
            return self.working_set;
        }
        let begin = Duration::from_secs_f64(from.as_secs_f64() % length.as_secs_f64());
        let end = begin + (to - from);
        let (mut whole, mut any) = (Some(PageSet::default()), Some(PageSet::default()));
        let (mut sum, mut parts) = (0, 0);
        let again = self.intervals.iter().map(|interval| (interval, interval.at + length));
        for (interval, at) in self.intervals.iter().map(|interval| (interval, interval.at)).chain(again) {
            let overlap = (at + interval.took).min(end).saturating_sub(at.max(begin));
            if overlap.is_zero() {
                continue;
            }
            let add = |all: Option<PageSet>| Some(all?.union(interval.pages.as_ref()?));
            any = add(any);
            if overlap == interval.took {
                whole = add(whole);
                sum += interval.bytes;
            } else {
                parts += interval.within(overlap);
            }
        }
        let known = whole.map_or(sum, |pages| pages.bytes()).saturating_add(parts);
        known.min(any.map_or(self.working_set, |pages| pages.bytes()))
    }

    /// What a profile tells.
    pub fn summary(&self) -> MemoryUse {
        let rates = || self.intervals.iter().map(Interval::rate);
        let bytes: u64 = self.intervals.iter().map(|interval| interval.bytes).sum();
        let seconds = self.intervals.iter().map(|interval| interval.took.as_secs_f64()).sum::<f64>();
        let mean = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
        let shown = |interval: &Interval| IntervalUse {
            at_s: thousandth(interval.at),
            s: thousandth(interval.took),
            bytes: interval.bytes,
            pages_per_s: pages_per_s(interval.rate()),
        };
        MemoryUse {
            tracker: self.tracker,
            stood_us: self.stood.as_micros() as u64,
            bytes: self.total,
            working_set_bytes: self.working_set,
            pages_per_s: pages_per_s(mean),
            quietest_pages_per_s: pages_per_s(rates().min_by(f64::total_cmp).unwrap_or(0.0)),
            busiest_pages_per_s: pages_per_s(rates().max_by(f64::total_cmp).unwrap_or(0.0)),
            intervals: self.intervals.iter().map(shown).collect(),
        }
    }
}

/// Seconds, to a thousandth.
pub fn thousandth(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Half a second each, in which so many of the same MiB are rewritten all the time.
    pub fn series(mib: &[u64]) -> Series {
        let each = Duration::from_millis(500);
        let interval = |(number, mib): (u32, &u64)| Interval {
            at: each * number,
            took: each,
            early: vec![(Duration::from_millis(10), mib * MIB)],
            bytes: mib * MIB,
            pages: Some(PageSet::from_ascending(std::iter::once(0..mib * MIB))),
        };
        Series {
            tracker: "pagemap-scan",
            stood: Duration::ZERO,
            standing: Duration::from_millis(4),
            total: 1024 * MIB,
            intervals: (0..).zip(mib).map(interval).collect(),
            working_set: mib.iter().max().copied().unwrap_or(0) * MIB,
        }
    }

    #[test]
    fn what_is_rewritten_counts_once() {
        let series = series(&[64, 64, 0, 8]);
        let ms = Duration::from_millis;
        let changed = |from, to| series.changed(ms(from), ms(to)) / MIB;
        assert_eq!(changed(0, 1000), 64);
        assert_eq!(changed(0, 5), 32);
        assert_eq!(changed(100, 300), 64);
        assert_eq!(changed(1000, 1500), 0);
        assert_eq!(changed(1400, 1700), 8);
        assert_eq!(changed(1500, 2300), 64, "it begins again");
        assert_eq!(changed(0, 100_000), 64);
        assert_eq!(changed(5, 5), 0);
        assert_eq!(Series::default().changed(ms(0), ms(5)), 0);
    }

    #[test]
    fn too_many_pages_are_counted_without_their_places() {
        let mut series = series(&[64, 64, 0, 8]);
        series.intervals.iter_mut().for_each(|interval| interval.pages = None);
        assert_eq!(series.changed(Duration::ZERO, Duration::from_secs(1)) / MIB, 64);
        assert_eq!(series.changed(Duration::from_millis(1000), Duration::from_millis(2000)) / MIB, 8);
    }

    #[test]
    fn the_rate_is_pages_a_second() {
        let summary = series(&[64, 0]).summary();
        assert_eq!((summary.busiest_pages_per_s, summary.quietest_pages_per_s), (2 * 64 * 256, 0));
        assert_eq!(summary.pages_per_s, 64 * 256);
    }
}
