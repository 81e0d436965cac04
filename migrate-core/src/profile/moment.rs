//! When to move a process, from what moves would have taken at the moments that were seen.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::memory::{Interval, Series, thousandth};
use super::predict::Prediction;

/// The best moment to begin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BestMoment {
    /// Since the beginning of the profile, seconds.
    pub at_s: f64,
    /// Until when it is as good.
    pub until_s: f64,
    /// What was changed of its memory is a pattern that comes again after so many seconds. None: no pattern was seen.
    pub period_s: Option<f64>,
    /// When the next such moment is, seconds since 1970, if there is a pattern.
    pub next_unix_s: Option<f64>,
}

/// Moves whose downtime differs by less are alike.
const ALIKE: (f64, u64) = (1.25, 2_000);

/// How like itself a series must be after its period.
const LIKENESS: f64 = 0.7;

/// The best moment. None: all are alike. The series has just ended.
pub fn best(series: &Series, all: &[(Duration, Prediction)]) -> Option<BestMoment> {
    let least = all.iter().map(|(_, p)| p.downtime_us).min()?;
    let most = all.iter().map(|(_, p)| p.downtime_us).max()?;
    let good = (least as f64 * ALIKE.0) as u64 + ALIKE.1;
    if most <= good {
        return None;
    }
    // The longest run of good ones; of several, the last.
    let mut runs: Vec<(Duration, Duration)> = Vec::new();
    let mut open = false;
    for ((at, prediction), interval) in all.iter().zip(&series.intervals) {
        let is_good = prediction.downtime_us <= good;
        match (is_good, runs.last_mut()) {
            (true, Some(run)) if open => run.1 = *at + interval.took,
            (true, _) => runs.push((*at, *at + interval.took)),
            _ => {}
        }
        open = is_good;
    }
    let (at, until) = runs.into_iter().max_by_key(|(from, to)| *to - *from)?;
    let period = period(&series.intervals);
    let next = period.and_then(|period| next(at, period, series.length()));
    Some(BestMoment {
        at_s: thousandth(at),
        until_s: thousandth(until),
        period_s: period.map(thousandth),
        next_unix_s: next.map(thousandth),
    })
}

/// When that moment comes again, after a series of this length that ends now; since 1970.
fn next(at: Duration, period: Duration, length: Duration) -> Option<Duration> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(length)?;
    let times = ((length - at.min(length)).as_secs_f64() / period.as_secs_f64()).ceil().max(1.0);
    Some(began + at + period.mul_f64(times))
}

/// After which time it does the same again: where what is changed is most like what was changed that much earlier.
pub fn period(intervals: &[Interval]) -> Option<Duration> {
    let rates: Vec<f64> = intervals.iter().map(Interval::rate).collect();
    let took = intervals.first()?.took;
    let even = |interval: &Interval| interval.took.abs_diff(took) < took / 5;
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let around: Vec<f64> = rates.iter().map(|rate| rate - mean).collect();
    let spread = around.iter().map(|r| r * r).sum::<f64>() / rates.len() as f64;
    // What changes by less than a third of itself has no quiet times worth waiting for.
    if !intervals.iter().all(even) || spread.sqrt() < mean / 3.0 {
        return None;
    }
    let likeness = |lag: usize| {
        let pairs = around.iter().zip(around.iter().skip(lag));
        let (mut together, mut one, mut other) = (0.0, 0.0, 0.0);
        for (a, b) in pairs {
            together += a * b;
            one += a * a;
            other += b * b;
        }
        together / (one * other).sqrt().max(1e-9)
    };
    let all: Vec<f64> = (0..=rates.len() / 2).map(likeness).collect();
    // The first peak: twice the period is as like. What is most like itself at the end of what was seen is perhaps no peak.
    let peak = (2..all.len().saturating_sub(1)).find(|&lag| {
        let at = |lag: usize| all.get(lag).copied().unwrap_or(-1.0);
        at(lag) >= LIKENESS && at(lag) >= at(lag - 1) && at(lag) >= at(lag + 1)
    })?;
    let whole = intervals.iter().map(|i| i.took).sum::<Duration>();
    Some(whole.mul_f64(peak as f64 / intervals.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::super::link::Link;
    use super::super::memory::tests::series;
    use super::super::predict;
    use super::*;
    use crate::plan::Options;

    fn found(mib: &[u64]) -> Option<BestMoment> {
        let series = series(mib);
        let link = Link { bytes_per_s: 4 << 30, interface: None, why: "" };
        best(&series, &predict::all(&series, &link, &Options::default()))
    }

    #[test]
    fn a_quiet_phase_is_found() {
        let moment = found(&[300, 300, 300, 300, 0, 0, 0, 0, 300, 300]).expect("a best moment");
        // The quarter of a second of a move has to end in it.
        assert!((1.5..=2.0).contains(&moment.at_s) && (3.5..=4.0).contains(&moment.until_s), "{moment:?}");
        assert_eq!((moment.period_s, moment.next_unix_s), (None, None));
    }

    #[test]
    fn a_pattern_is_found() {
        let moment = found(&[&[300, 300, 300, 0, 0][..]; 4].concat()).expect("a best moment");
        assert_eq!(moment.period_s, Some(2.5));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let next = moment.next_unix_s.expect("a next one");
        assert!((-1.0..=2.6).contains(&(next - now)), "{next} {now}");
    }

    #[test]
    fn where_all_is_alike_there_is_none() {
        assert_eq!(found(&[8; 20]), None);
        assert_eq!(found(&[]), None);
        assert_eq!(period(&series(&[8; 20]).intervals), None);
        let noise = [5, 9, 90, 97, 40, 88, 7, 3, 61, 12, 50, 1, 33, 99, 70, 80, 20, 45, 66, 30];
        assert_eq!(period(&series(&noise).intervals), None);
    }
}
