//! Whether to copy another round or to freeze: one pure function over what has happened so far.

use std::time::Duration;

use crate::plan::WhenNotConverging;

/// One finished round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Bytes of memory that it had to send.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// The part of the time that the process was made to stand during it, percent.
    pub throttle: u8,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Downtime to aim at.
    pub max_downtime: Duration,
    /// Rounds at most.
    pub max_rounds: u32,
    /// What to do when neither is possible.
    pub otherwise: WhenNotConverging,
    /// Bytes a second that a freeze can send when the rounds were held back, if known.
    pub link_rate: Option<u64>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Copy another round.
    Again,
    /// What is left fits.
    Freeze,
    /// It does not get less; freeze all the same, and expect this downtime.
    FreezeAnyway(Duration),
    /// It does not get less, and the operator wants it to stay.
    GiveUp(Duration),
    /// Copy another round, and have the process stand for this part of the time, percent.
    Throttle(u8),
}

/// Less than this is not worth a round of its own.
const ENOUGH: u64 = 256 << 10;
/// A round that leaves more than this part of the one before does not help.
const PROGRESS: f64 = 0.8;
/// What a freeze takes without any page.
const BASE: Duration = Duration::from_millis(2);
/// How much a process is slowed down at first, and how much more each time that it is not enough, percent.
const THROTTLE: (u8, u8) = (20, 10);
/// More is not slowing down any more, but stopping.
const THROTTLE_MOST: u8 = 99;

/// Decides, with `left` bytes known to have changed.
pub fn decide(past: &[Past], left: u64, limits: &Limits) -> Decision {
    if limits.max_rounds == 0 {
        return Decision::Freeze;
    }
    let Some(last) = past.last() else { return Decision::Again };
    if left <= ENOUGH {
        return Decision::Freeze;
    }
    let (bytes, took) = past.iter().fold((0, Duration::ZERO), |(b, t), p| (b + p.bytes, t + p.took));
    let rate = (bytes as f64 / took.as_secs_f64().max(1e-6)).max(limits.link_rate.unwrap_or(0) as f64);
    let expected = BASE + Duration::from_secs_f64((left as f64 / rate.max(1.0)).min(1e6));
    let helps = (left as f64) < last.bytes as f64 * PROGRESS;
    // A process that is slowed down gets rounds of its own: each step is given one, and more while they help.
    let unslowed = past.iter().filter(|p| p.throttle == 0).count();
    match (helps, last.throttle > 0 || (unslowed as u32) < limits.max_rounds) {
        (true, true) => Decision::Again,
        _ if expected <= limits.max_downtime => Decision::Freeze,
        // One bad round may be chance; two in a row are not.
        (false, true) if past.len() < 3 => Decision::Again,
        _ => match limits.otherwise {
            WhenNotConverging::Fail => Decision::GiveUp(expected),
            WhenNotConverging::Throttle if last.throttle < THROTTLE_MOST => Decision::Throttle(slower(last.throttle)),
            WhenNotConverging::Stop | WhenNotConverging::Throttle => Decision::FreezeAnyway(expected),
        },
    }
}

/// The step after this one.
fn slower(throttle: u8) -> u8 {
    let (first, step) = THROTTLE;
    if throttle == 0 { first } else { (throttle + step).min(THROTTLE_MOST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// 1 GiB/s.
    fn past(sizes: &[u64]) -> Vec<Past> {
        sizes
            .iter()
            .map(|mib| Past { bytes: mib * MIB, took: Duration::from_micros(mib * 1_000_000 / 1024), throttle: 0 })
            .collect()
    }

    #[test]
    fn decides() {
        let limits =
            |otherwise| Limits { max_downtime: Duration::from_millis(50), max_rounds: 8, otherwise, link_rate: None };
        let stop = limits(WhenNotConverging::Stop);
        let table: &[(&str, &[u64], u64, Decision)] = &[
            ("nothing sent yet", &[], 1024 * MIB, Decision::Again),
            ("idle", &[1024], 0, Decision::Freeze),
            ("a little left", &[1024], 100 << 10, Decision::Freeze),
            ("shrinking", &[1024], 100 * MIB, Decision::Again),
            ("shrinking further though it would fit", &[1024, 100], 10 * MIB, Decision::Again),
            ("no longer shrinking, and it fits", &[1024, 100, 10], 10 * MIB, Decision::Freeze),
            (
                "a hot part that fits no budget",
                &[1024, 600, 600],
                600 * MIB,
                Decision::FreezeAnyway(Duration::from_micros(2000 + 585_937)),
            ),
            ("one bad round is not given up", &[1024], 1000 * MIB, Decision::Again),
            (
                "rounds are used up",
                &[1024, 700, 500, 350, 250, 180, 130, 100],
                75 * MIB,
                Decision::FreezeAnyway(Duration::from_micros(2000 + 73_242)),
            ),
        ];
        for (name, sizes, left, expected) in table {
            let got = decide(&past(sizes), *left, &stop);
            match (&got, expected) {
                (Decision::FreezeAnyway(a), Decision::FreezeAnyway(b)) => {
                    assert!(a.abs_diff(*b) < Duration::from_micros(10), "{name}: {a:?}")
                }
                _ => assert_eq!(&got, expected, "{name}"),
            }
        }
        let hot = past(&[1024, 600, 600]);
        assert!(matches!(decide(&hot, 600 * MIB, &limits(WhenNotConverging::Fail)), Decision::GiveUp(_)));
        // Rounds that were held back say nothing of a freeze, which is not.
        let link = Limits { link_rate: Some(100 << 30), ..limits(WhenNotConverging::Fail) };
        assert_eq!(decide(&hot, 600 * MIB, &link), Decision::Freeze);
        let slower = Limits { link_rate: Some(1), ..limits(WhenNotConverging::Fail) };
        assert_eq!(decide(&hot, 10 * MIB, &slower), decide(&hot, 10 * MIB, &stop));
        let none = Limits { max_rounds: 0, ..stop };
        assert_eq!(decide(&[], 1024 * MIB, &none), Decision::Freeze);
    }
    #[test]
    fn slows_down_step_by_step() {
        let limits = Limits {
            max_downtime: Duration::from_millis(50),
            max_rounds: 3,
            otherwise: WhenNotConverging::Throttle,
            link_rate: None,
        };
        let mut rounds = past(&[1024, 600]);
        assert_eq!(decide(&rounds, 600 * MIB, &limits), Decision::Again, "one bad round is not yet a reason");
        rounds.extend(past(&[600]));
        let mut steps = Vec::new();
        let mut round = |throttle| {
            rounds.push(Past { throttle, ..past(&[600])[0] });
            rounds.clone()
        };
        let mut decision = Decision::Throttle(20);
        while let Decision::Throttle(percent) = decision {
            steps.push(percent);
            decision = decide(&round(percent), 600 * MIB, &limits);
        }
        assert_eq!(steps, [20, 30, 40, 50, 60, 70, 80, 90, 99]);
        assert!(matches!(decision, Decision::FreezeAnyway(_)), "even that was not enough");
        let at_50 = round(50);
        assert_eq!(decide(&at_50, 300 * MIB, &limits), Decision::Again, "it gets less: no need to be slower");
        assert_eq!(decide(&at_50, 40 * MIB, &limits), Decision::Again);
        let less = [at_50, vec![Past { throttle: 50, ..past(&[40])[0] }]].concat();
        assert_eq!(decide(&less, 40 * MIB, &limits), Decision::Freeze, "it does not get less, and fits");
        assert_eq!(decide(&past(&[1024, 600, 600]), 600 * MIB, &limits), Decision::Throttle(20));
        assert_eq!(decide(&past(&[1024, 100, 10]), 10 * MIB, &limits), Decision::Freeze, "no need");
    }
}
