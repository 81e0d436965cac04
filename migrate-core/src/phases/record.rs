//! What a migration has done so far: becomes its report.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::memory::send::Counted;
use crate::phase::{Event, Observer, Outcome, PageCounts, Phase, Report, Round, Throttled, Timing, display_duration};
use crate::plan::Plan;

/// A report in the making.
pub struct Record<'o> {
    observer: &'o mut dyn Observer,
    pid: i32,
    host: String,
    began: Instant,
    phase: Option<(Phase, Instant)>,
    timings: Vec<Timing>,
    frozen_since: Option<Instant>,
    downtime: Option<Duration>,
    /// The program's name.
    pub name: String,
    /// The PID at the destination.
    pub pid_there: Option<i32>,
    /// All bytes sent.
    pub bytes_sent: u64,
    /// Bytes of pages that were compressed, before and after.
    pub compressed: (u64, u64),
    /// Pages.
    pub pages: PageCounts,
    /// Rounds.
    pub rounds: Vec<Round>,
    /// How changed pages were found.
    pub tracker: &'static str,
    /// Since when it is slowed down, and by how much.
    slow_since: Option<Instant>,
    throttled: Option<Throttled>,
    /// Its memory is compared before it may run there.
    pub verified: bool,
    warnings: Vec<String>,
}

impl<'o> Record<'o> {
    /// Begins now.
    pub fn new(plan: &Plan, observer: &'o mut dyn Observer) -> Record<'o> {
        Record {
            observer,
            pid: plan.pid,
            host: plan.host.clone(),
            began: Instant::now(),
            phase: None,
            timings: Vec::new(),
            frozen_since: None,
            downtime: None,
            name: String::new(),
            pid_there: None,
            bytes_sent: 0,
            compressed: (0, 0),
            pages: PageCounts::default(),
            rounds: Vec::new(),
            tracker: "none",
            slow_since: None,
            throttled: None,
            verified: false,
            warnings: Vec::new(),
        }
    }

    /// A phase begins.
    pub fn enter(&mut self, phase: Phase) {
        self.close_phase();
        self.observer.event(Event::Phase(phase.clone()));
        self.phase = Some((phase, Instant::now()));
    }

    fn close_phase(&mut self) {
        if let Some((phase, since)) = self.phase.take() {
            let frozen = matches!(phase, Phase::Freeze | Phase::Capture | Phase::Transfer | Phase::Commit);
            self.timing(phase.name(), since.elapsed(), frozen);
        }
    }

    /// A step took this long.
    pub fn timing(&mut self, name: impl Into<String>, took: Duration, frozen: bool) {
        self.timings.push(Timing { name: name.into(), us: took.as_micros() as u64, frozen });
    }

    /// The first thread is about to be stopped.
    pub fn stands_still(&mut self) {
        self.frozen_since = Some(Instant::now());
    }

    /// It runs again, here or there.
    pub fn runs_again(&mut self) {
        if let Some(since) = self.frozen_since.take() {
            self.downtime = Some(since.elapsed());
            self.close_phase();
        }
    }

    /// A round is over.
    pub fn round(&mut self, before: &Counted, after: &Counted, took: Duration) {
        let (pages, bytes) = (after.pages - before.pages, after.bytes - before.bytes);
        self.rounds.push(Round { pages, bytes, us: took.as_micros() as u64 });
    }

    /// Takes over what the page streams counted in all.
    pub fn count(&mut self, counted: &Counted, control_bytes: u64) {
        self.pages.sent = counted.pages;
        self.pages.zero = counted.zero_pages;
        self.compressed = (counted.compressed_from, counted.compressed_to);
        self.bytes_sent = counted.bytes + control_bytes;
    }

    /// Bytes of pages went out.
    pub fn progress(&mut self, sent: u64, expected: u64) {
        self.observer.event(Event::Progress { sent, expected });
    }

    /// The operator should know.
    pub fn warn(&mut self, warning: String) {
        self.observer.event(Event::Warning(warning.clone()));
        self.warnings.push(warning);
    }

    /// From now on it stands for this part of the time.
    pub fn slows_down(&mut self, percent: u8) {
        self.slow_since.get_or_insert_with(Instant::now);
        self.throttled.get_or_insert_default().percent = percent;
        self.observer.event(Event::Throttle(percent));
    }

    /// It is not slowed down any more, having stood for so long.
    pub fn full_speed(&mut self, stood: Duration) {
        if let (Some(since), Some(throttled)) = (self.slow_since.take(), &mut self.throttled) {
            throttled.us = since.elapsed().as_micros() as u64;
            throttled.stood_us = stood.as_micros() as u64;
        }
    }

    /// It is over.
    pub fn finish(mut self, result: Result<Outcome>) -> Report {
        self.close_phase();
        self.runs_again();
        self.full_speed(Duration::ZERO);
        if let Some(&Throttled { percent, us, stood_us }) = self.throttled.as_ref() {
            let (us, stood) = (display_duration(us), display_duration(stood_us));
            self.warn(format!(
                "it changed its memory faster than it could be sent and was slowed down, at last by {percent} %, for {us} ({stood} of standing)"
            ));
        }
        let moved = matches!(result, Ok(Outcome::Moved));
        let outcome = result.unwrap_or_else(|error| Outcome::StayedHere { why: error.to_string() });
        self.observer.event(Event::Phase(Phase::Done(outcome.clone())));
        Report {
            outcome,
            pid: self.pid,
            pid_there: self.pid_there,
            name: self.name,
            host: self.host,
            downtime_us: self.downtime.map(|d| d.as_micros() as u64),
            total_us: self.began.elapsed().as_micros() as u64,
            bytes_sent: self.bytes_sent,
            compressed_from: self.compressed.0,
            compressed_to: self.compressed.1,
            pages: self.pages,
            rounds: self.rounds,
            phases: self.timings,
            tracker: self.tracker.into(),
            throttled: self.throttled,
            verified: self.verified && moved,
            warnings: self.warnings,
        }
    }
}
