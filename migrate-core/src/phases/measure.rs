//! The downtime as the schedulers of both hosts see it (`--measure`): an independent check of what the report says.
//!
//! It begins when the last of its threads leaves its processor here, to stand; that is the end of its last instruction, or of a wait that
//! until then could have ended. It ends when the first one gets on a processor there, once it is let run: whatever we had it do there
//! before does not count. With many threads each stands for longer than all of them together.
//!
//! A probe on each host notes its part. On one machine both read the same clock. Between two, the clocks are compared by asking for the
//! time a few times, after the move: the quickest answer tells best, and is wrong by half of what it took at most, and by what the clocks
//! have drifted apart since.

use migrate_linux::downtime_probe::DowntimeProbe;

use super::peer::Peer;
use crate::clocks::HostClocks;
use crate::error::{Doing, Error, Result};
use crate::phase::Measured;
use crate::protocol::message::{FirstRun, MEASURED_FOR, QUESTIONS, ToDestination, ToSource};
use crate::resources::FrozenThread;

/// What of it is known.
#[derive(Debug, Default)]
pub struct Measure {
    /// None: it is not wanted.
    probe: Option<std::result::Result<DowntimeProbe, String>>,
    left: Option<u64>,
    measured: Option<Measured>,
}

/// No clock is made to run faster or slower than it does by more than one part in so many (MAXFREQ, include/linux/timex.h).
const DRIFT: i64 = 2000;

/// The time there when it was between these two here, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    asked: i64,
    answered: i64,
    there: i64,
}

/// By how much the clock there is ahead of the one here, and by how much that may be wrong; nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ahead {
    by: i64,
    error: i64,
}

impl Measure {
    /// Watches it here from now on. Takes a tenth of a second.
    pub fn begin(&mut self, pid: i32) {
        self.probe = Some(DowntimeProbe::watch(pid).map_err(|why| why.to_string()));
    }

    /// Every thread stands, and none has run anything but its own code until now.
    pub fn stands(&mut self, threads: &[FrozenThread]) {
        if let Some(Ok(probe)) = &self.probe {
            // Whoever knows its registers knows it off its processor. One that has been killed meanwhile shows elsewhere.
            threads.iter().for_each(|thread| drop(thread.stopped.registers()));
            self.left = probe.last_out();
        }
    }

    /// Asks the destination, where it runs, since when. Ok: or that was not wanted. Err: why it is not known.
    pub fn ask(&mut self, peer: Option<Peer>) -> Result<()> {
        let Some(probe) = &self.probe else { return Ok(()) };
        if let Err(why) = probe {
            return Err(Error::Invalid(format!("on this host {why}")));
        }
        let unknown = |what: &str| Error::Invalid(what.into());
        let left = self.left.ok_or_else(|| unknown("the probe on this host has not seen it run"))? as i64;
        let mut peer = peer.ok_or_else(|| unknown("the connection to the destination was lost"))?;
        peer.stream().set_read_timeout(Some(MEASURED_FOR)).doing(|| "set a deadline".into())?;
        let here = HostClocks::now()?;
        let (mut came, mut answers) = (0, Vec::new());
        for _ in 0..QUESTIONS {
            let asked = here.boot_time()?;
            peer.send(&ToDestination::WhenFirst)?;
            let FirstRun { at, clocks } = match peer.receive()? {
                ToSource::FirstRun(first) => first,
                other => return Err(peer.unexpected(&other)),
            };
            let answered = here.boot_time()?;
            came = at.map_err(|why| Error::Invalid(format!("on {} {why}", peer.host)))? as i64;
            if here.same_kernel(&clocks) {
                return self.note(left, came, Some(Ahead::default()));
            }
            answers.push(Answer { asked, answered, there: clocks.boottime });
        }
        self.note(left, came, ahead(left, &answers))
    }

    fn note(&mut self, left: i64, came: i64, ahead: Option<Ahead>) -> Result<()> {
        let measured = ahead.and_then(|ahead| between(left, came, ahead));
        self.measured = measured;
        measured.map(drop).ok_or_else(|| Error::Invalid("it would be less than nothing by the hosts' clocks".into()))
    }

    /// What is known in the end.
    pub fn result(&self) -> Option<Measured> {
        self.measured
    }
}

/// `since`: the moment here from which on that must hold. None: there is no answer, or one that cannot be.
fn ahead(since: i64, answers: &[Answer]) -> Option<Ahead> {
    let quickest = answers.iter().min_by_key(|answer| answer.answered.saturating_sub(answer.asked))?;
    let half = quickest.answered.checked_sub(quickest.asked)? / 2;
    let drift = quickest.answered.checked_sub(since)? / DRIFT;
    Some(Ahead { by: quickest.there.checked_sub(quickest.asked.checked_add(half)?)?, error: half.checked_add(drift)? })
}

/// From a moment here to one there, nanoseconds by the clocks of each. None: that one was certainly before this one.
fn between(left: i64, came: i64, ahead: Ahead) -> Option<Measured> {
    let ns = came.checked_sub(ahead.by)?.checked_sub(left)?;
    let error_us = u64::try_from(ahead.error).ok()?.div_ceil(1000);
    (ns.checked_add(ahead.error)? >= 0).then_some(Measured { us: ns.max(0) as u64 / 1000, error_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn the_quickest_answer_counts() {
        // The clock there is an hour ahead.
        let hour = 3600 * 1000 * MS;
        let answer = |asked: i64, took: i64, way_there: i64| Answer {
            asked,
            answered: asked + took,
            there: asked + way_there + hour,
        };
        let answers = [answer(100 * MS, 9 * MS, 8 * MS), answer(248 * MS, 2 * MS, MS), answer(300 * MS, 5 * MS, 0)];
        let found = ahead(50 * MS, &answers);
        // And 200 ms have passed.
        assert_eq!(found, Some(Ahead { by: hour, error: MS + MS / 10 }));
        let found = found.unwrap();
        assert_eq!(between(50 * MS, 54 * MS + hour, found), Some(Measured { us: 4000, error_us: 1100 }));
        // Less than nothing, but by less than the error; and by more.
        assert_eq!(between(55 * MS, 54 * MS + hour, found), Some(Measured { us: 0, error_us: 1100 }));
        assert_eq!(between(56 * MS, 54 * MS + hour, found), None);
        assert_eq!(ahead(0, &[]), None);
    }

    #[test]
    fn one_clock_needs_no_comparing() {
        assert_eq!(between(50 * MS, 54 * MS + 999, Ahead::default()), Some(Measured { us: 4000, error_us: 0 }));
        assert_eq!(between(54 * MS, 50 * MS, Ahead::default()), None);
    }

    #[test]
    fn no_number_of_a_peer_overflows() {
        for extreme in [i64::MIN, i64::MAX, -1, 0] {
            for there in [i64::MIN, i64::MAX] {
                let answers = [Answer { asked: 5, answered: 9, there }];
                let _ = ahead(extreme, &answers).and_then(|ahead| between(7, extreme, ahead));
            }
            let _ = between(7, extreme, Ahead { by: extreme, error: extreme });
        }
    }
}
