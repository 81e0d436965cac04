//! What a migration has done so far: becomes its report.

use std::time::{Duration, Instant};

use super::measure::Measure;
use super::undo::Failures;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::memory::send::Counted;
use crate::phase::{Event, Observer, Outcome, PageCounts, Phase, Report, Round, Throttled, Timing, display_duration};
use crate::plan::Plan;

/// A report in the making.
pub struct Record<'o> {
    observer: &'o mut dyn Observer,
    /// Whether it is to end.
    pub cancel: Cancel,
    pid: i32,
    host: String,
    began: Instant,
    phase: Option<(Phase, Instant)>,
    timings: Vec<Timing>,
    frozen_since: Option<Instant>,
    /// Of the downtime, what is in steps that are done.
    stood_us: u64,
    downtime_us: Option<u64>,
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
    /// How the kernel was asked for the state of threads.
    pub kernel_state: &'static str,
    /// What its clocks are there.
    pub clock: &'static str,
    /// Since when it is slowed down, and by how much.
    slow_since: Option<Instant>,
    throttled: Option<Throttled>,
    /// Its memory is compared before it may run there.
    pub verified: bool,
    /// The downtime as the schedulers see it.
    pub measure: Measure,
    warnings: Vec<String>,
    /// What could not be undone.
    pub not_undone: Failures,
}

impl<'o> Record<'o> {
    /// Begins now.
    pub fn new(plan: &Plan, observer: &'o mut dyn Observer, cancel: Cancel) -> Record<'o> {
        Record {
            observer,
            cancel,
            pid: plan.pid,
            host: plan.host.clone(),
            began: Instant::now(),
            phase: None,
            timings: Vec::new(),
            frozen_since: None,
            stood_us: 0,
            downtime_us: None,
            name: String::new(),
            pid_there: None,
            bytes_sent: 0,
            compressed: (0, 0),
            pages: PageCounts::default(),
            rounds: Vec::new(),
            tracker: "none",
            kernel_state: "ptrace",
            clock: "same",
            slow_since: None,
            throttled: None,
            verified: false,
            measure: Measure::default(),
            warnings: Vec::new(),
            not_undone: Failures::default(),
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
            // The others are told step by step.
            if matches!(phase, Phase::Preflight | Phase::PreCopy { .. }) {
                let us = since.elapsed().as_micros() as u64;
                self.timings.push(Timing { name: phase.name().into(), us, frozen: false, part: false });
            }
        }
    }

    /// The first thread is about to be stopped.
    pub fn stands_still(&mut self) {
        self.frozen_since = Some(Instant::now());
    }

    /// A step of the downtime is done, which began where the one before it ended.
    pub fn step(&mut self, name: &str) {
        if let Some(since) = self.frozen_since {
            // Whole microseconds, none of which is in two steps or in none.
            let until = since.elapsed().as_micros() as u64;
            let before = std::mem::replace(&mut self.stood_us, until);
            self.timings.push(Timing { name: name.into(), us: until - before, frozen: true, part: false });
        }
    }

    /// A part of the step that has just been done took so long, as the destination says.
    pub fn part(&mut self, name: impl Into<String>, us: u64) {
        self.timings.push(Timing { name: name.into(), us, frozen: true, part: true });
    }

    /// It runs again, here or there. `name`: the last step.
    pub fn runs_again(&mut self, name: &str) {
        self.step(name);
        if self.frozen_since.take().is_some() {
            self.downtime_us = Some(self.stood_us);
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
        // Several looks at the process may find the same.
        if self.warnings.contains(&warning) {
            return;
        }
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
        self.runs_again("undo");
        self.full_speed(Duration::ZERO);
        let not_undone = self.not_undone.take();
        not_undone.into_iter().for_each(|failure| self.warn(failure));
        if let Some(&Throttled { percent, us, stood_us }) = self.throttled.as_ref() {
            // For how long it stood is not known of a move that failed before the freeze.
            let stood =
                if stood_us > 0 { format!(" ({} of standing)", display_duration(stood_us)) } else { String::new() };
            let us = display_duration(us);
            self.warn(format!(
                "it changed its memory faster than it could be sent and was slowed down, at last by {percent} %, for {us}{stood}"
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
            downtime_us: self.downtime_us,
            total_us: self.began.elapsed().as_micros() as u64,
            bytes_sent: self.bytes_sent,
            compressed_from: self.compressed.0,
            compressed_to: self.compressed.1,
            pages: self.pages,
            rounds: self.rounds,
            phases: self.timings,
            tracker: self.tracker.into(),
            kernel_state: self.kernel_state.into(),
            clock: self.clock.into(),
            throttled: self.throttled,
            verified: self.verified && moved,
            measured: self.measure.result(),
            warnings: self.warnings,
        }
    }
}
