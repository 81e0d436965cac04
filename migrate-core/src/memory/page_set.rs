//! A set of pages, as sorted ranges that neither touch nor overlap.

use std::ops::Range;

/// A set of addresses, page by page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageSet(Vec<Range<u64>>);

impl PageSet {
    /// From ranges in ascending order of their starts; they may touch and overlap.
    pub fn from_ascending(ranges: impl IntoIterator<Item = Range<u64>>) -> PageSet {
        let mut set: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match set.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ if range.is_empty() => {}
                _ => set.push(range),
            }
        }
        PageSet(set)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// Whether it has no page.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a whole range is in it.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let at = self.0.partition_point(|r| r.end <= range.start);
        self.0.get(at).is_some_and(|r| r.start <= range.start && range.end <= r.end)
    }

    /// Those in a range.
    pub fn within(&self, range: &Range<u64>) -> PageSet {
        let first = self.0.partition_point(|r| r.end <= range.start);
        let inside = self.0[first..].iter().take_while(|r| r.start < range.end);
        PageSet(inside.map(|r| r.start.max(range.start)..r.end.min(range.end)).collect())
    }

    /// Those in either.
    pub fn union(&self, other: &PageSet) -> PageSet {
        let mut all: Vec<Range<u64>> = self.0.iter().chain(&other.0).cloned().collect();
        all.sort_unstable_by_key(|r| r.start);
        PageSet::from_ascending(all)
    }

    /// Those in both.
    pub fn common(&self, other: &PageSet) -> PageSet {
        self.without(&self.without(other))
    }

    /// Those here that are not there.
    pub fn without(&self, other: &PageSet) -> PageSet {
        let mut left = Vec::with_capacity(self.0.len());
        let mut others = other.0.iter().peekable();
        for range in &self.0 {
            let mut at = range.start;
            while others.peek().is_some_and(|o| o.end <= at) {
                others.next();
            }
            let mut ahead = others.clone();
            while let Some(o) = ahead.next_if(|o| o.start < range.end) {
                if o.start > at {
                    left.push(at..o.start);
                }
                at = at.max(o.end);
            }
            if at < range.end {
                left.push(at..range.end);
            }
        }
        PageSet(left)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pages(set: &PageSet) -> BTreeSet<u64> {
        set.ranges().iter().flat_map(|r| r.clone()).collect()
    }

    prop_compose! {
        fn any_set()(mut ranges in proptest::collection::vec((0u64..60, 0u64..9), 0..12)) -> PageSet {
            ranges.sort_unstable();
            PageSet::from_ascending(ranges.into_iter().map(|(start, len)| start..start + len))
        }
    }

    proptest! {
        #[test]
        fn is_a_set(a in any_set(), b in any_set(), probe in (0u64..60, 1u64..9)) {
            let (x, y) = (pages(&a), pages(&b));
            prop_assert_eq!(pages(&a.union(&b)), x.union(&y).copied().collect());
            prop_assert_eq!(pages(&a.without(&b)), x.difference(&y).copied().collect());
            let range = probe.0..probe.0 + probe.1;
            prop_assert_eq!(a.covers(&range), range.clone().all(|p| x.contains(&p)));
            prop_assert_eq!(pages(&a.within(&range)), x.iter().copied().filter(|p| range.contains(p)).collect());
            prop_assert_eq!(pages(&a.common(&b)), x.intersection(&y).copied().collect());
            for set in [a.union(&b), a.without(&b), a.within(&range)] {
                prop_assert!(set.ranges().windows(2).all(|w| w[0].end < w[1].start));
                prop_assert!(set.ranges().iter().all(|r| !r.is_empty()));
            }
        }
    }
}
