//! What a move would take: its rounds played through on what was seen, with the decisions of a real one.

use std::time::Duration;

use serde::Serialize;

use super::link::Link;
use super::memory::Series;
use crate::memory::decide::{Decision, Limits, Past, decide};
use crate::plan::Options;

/// What a round takes besides its pages, and what is looked at between two rounds (figures of `scripts/bench --phases`).
const ROUND: Duration = Duration::from_millis(3);

/// What a move takes before its first round: preflight, and the process made there.
const BEFORE: Duration = Duration::from_millis(10);

/// What a move would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Prediction {
    /// Rounds of copying, that in the freeze not counted.
    pub rounds: u32,
    /// Bytes of memory in all.
    pub bytes: u64,
    /// From its beginning to its end, microseconds.
    pub total_us: u64,
    /// How long the process stands still, microseconds.
    pub downtime_us: u64,
    /// Whether its memory is expected to be copied faster than it changes. If not it is stopped for longer than was asked for.
    pub converges: bool,
}

/// A move that begins `at`.
pub fn one(series: &Series, at: Duration, link: &Link, options: &Options) -> Prediction {
    let limits = Limits {
        max_downtime: options.max_downtime,
        max_rounds: options.max_rounds,
        otherwise: options.when_not_converging,
        link_rate: None,
    };
    let sending = |bytes: u64| Duration::from_secs_f64(bytes as f64 / link.bytes_per_s.max(1) as f64);
    let mut past = Vec::new();
    let (mut clock, mut left, mut bytes) = (at + BEFORE, series.total, 0);
    let converges = loop {
        match decide(&past, left, &limits) {
            Decision::Again => {}
            Decision::Freeze => break true,
            // A process that is slowed down changes less; by how much, nobody has seen.
            Decision::FreezeAnyway(_) | Decision::GiveUp(_) | Decision::Throttle(_) => break false,
        }
        let took = sending(left) + ROUND;
        past.push(Past { bytes: left, took, throttle: 0 });
        bytes += left;
        left = series.changed(clock, clock + took).min(series.total.max(series.working_set));
        clock += took;
    };
    let downtime = series.standing + sending(left);
    Prediction {
        rounds: past.len() as u32,
        bytes: bytes + left,
        total_us: (clock - at + downtime).as_micros() as u64,
        downtime_us: downtime.as_micros() as u64,
        converges,
    }
}

/// One for each interval: as if it had begun with that.
pub fn all(series: &Series, link: &Link, options: &Options) -> Vec<(Duration, Prediction)> {
    series.intervals.iter().map(|i| (i.at, one(series, i.at, link, options))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::series;
    use super::*;

    /// 1 GiB/s, 4 ms without memory.
    fn predicted(mib: &[u64], at: u64, options: &Options) -> Prediction {
        let link = Link { bytes_per_s: 1 << 30, interface: None, why: "" };
        one(&series(mib), Duration::from_millis(at), &link, options)
    }

    #[test]
    fn an_idle_process_takes_one_round() {
        let idle = predicted(&[0, 0, 0, 0], 0, &Options::default());
        assert_eq!((idle.rounds, idle.bytes, idle.converges), (1, 1 << 30, true));
        assert_eq!((idle.downtime_us, idle.total_us), (4_000, 1_017_000));
    }

    #[test]
    fn what_is_hot_is_sent_while_it_stands() {
        let busy = [64; 10];
        // 64 MiB at 1 GiB/s.
        let hot = predicted(&busy, 0, &Options::default());
        assert!(!hot.converges && (66_000..67_000).contains(&hot.downtime_us), "{hot:?}");
        let patient = Options { max_downtime: Duration::from_millis(100), ..Options::default() };
        assert!(predicted(&busy, 0, &patient).converges);
        let at_once = predicted(&busy, 0, &Options { max_rounds: 0, ..Options::default() });
        assert_eq!((at_once.rounds, at_once.downtime_us), (0, 1_004_000));
    }

    #[test]
    fn a_quiet_end_is_what_counts() {
        // It takes a second and a bit.
        let phases = [64, 64, 64, 64, 0, 0, 0, 0];
        let (good, bad) =
            (predicted(&phases, 1500, &Options::default()), predicted(&phases, 3500, &Options::default()));
        assert!(good.downtime_us < 10_000 && good.converges, "{good:?}");
        assert!(bad.downtime_us > 60_000 && !bad.converges, "{bad:?}");
    }
}
