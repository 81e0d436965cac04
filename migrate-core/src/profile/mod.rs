//! What a process does over a time, and from that when to move it and what to expect: `check --profile`.
//!
//! - [`activity`]: system calls, files, peers, and what of these cannot move;
//! - [`memory`]: how much memory it changes, and when;
//! - [`predict`]: what a move would take, decided as a move decides;
//! - [`moment`]: the best one, and the pattern if there is one.

pub mod activity;
mod calls;
pub mod link;
pub mod memory;
pub mod moment;
pub mod predict;
mod sampling;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use migrate_linux::activity_probe::{ActivityProbe, Watched};
use serde::Serialize;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::phases::watch::MemoryWatch;
use crate::plan::Options;
use crate::proc::process::is_over;
use activity::{CallUse, FileUse, PeerUse};
use link::Link;
use memory::{MemoryUse, Series};
use moment::BestMoment;
use predict::Prediction;
use sampling::Sampler;

/// For how long a process may be watched.
pub const DURATIONS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// What was seen. Serialized, it is what `check --json` has under `profile`: no name of it goes, none changes its meaning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// For how long it was watched.
    pub seconds: f64,
    /// Why that is less than it was meant to be.
    pub ended_early: Option<String>,
    /// That the process has ended.
    pub process_ended: bool,
    /// How its calls were seen: `ebpf` (all of them) or `sampling` (what its threads were in, twenty times a second).
    pub source: &'static str,
    /// System calls, those first that it was in for longest.
    pub calls: Vec<CallUse>,
    /// Files that it opened, those first that it opened most often.
    pub files: Vec<FileUse>,
    /// Whom it talked to, those first with whom it exchanged most.
    pub peers: Vec<PeerUse>,
    /// What it used in that time that cannot move, whether or not it has it now.
    pub cannot_move: Vec<String>,
    /// What it changed of its memory. None: that could not be followed.
    pub memory: Option<MemoryUse>,
    /// What a move would take. None: without `memory` that cannot be known.
    pub moves: Option<Moves>,
    /// What was not seen, and why.
    pub notes: Vec<String>,
}

/// What moves would have taken that had begun in that time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moves {
    /// What was assumed of the way there.
    pub link: Link,
    /// One that began at a moment like most.
    pub typical: Prediction,
    /// At the best moment.
    pub best: Prediction,
    /// At the worst.
    pub worst: Prediction,
    /// The best moment. None: all are alike.
    pub best_moment: Option<BestMoment>,
}

/// Watches a process for a time. The process stands still for a moment at the beginning (see [`MemoryUse::stood_us`]), and nothing
/// else of it is touched; a `cancel` ends the time.
///
/// Err: it cannot be looked at.
pub fn profile(
    pid: i32,
    host: Option<&str>,
    options: &Options,
    duration: Duration,
    cancel: &Cancel,
) -> Result<Profile> {
    let duration = duration.clamp(*DURATIONS.start(), *DURATIONS.end());
    let mut notes = Vec::new();
    let probe = ActivityProbe::load().map_err(|why| why.to_string());
    // Before its calls are watched: this makes some inside it.
    let mut memory = match MemoryWatch::begin(pid, options) {
        Ok(watch) => Some(watch),
        Err(error @ Error::Refused(_)) => return Err(error),
        Err(error) => {
            notes.push(format!("its memory cannot be followed: {error}"));
            None
        }
    };
    let mut seen = match probe.and_then(|probe| probe.watch(pid).map_err(|why| why.to_string())) {
        Ok(watched) => Seen::All(Box::new(watched)),
        Err(why) => {
            notes.push(format!("{why}; instead its threads are looked at twenty times a second"));
            Seen::Samples(Sampler::new(pid))
        }
    };
    let began = Instant::now();
    let mut waiting = Waiting { pid, end: began + duration, cancel, seen: &mut seen, ended: None };
    if let Some(watch) = &mut memory
        && let Err(error) = watch.run(began, duration, |until| waiting.until(until))
    {
        // Of one that has ended nothing can be read; that is no news.
        if !is_over(pid) {
            notes.push(format!(
                "from {:.1} s on its memory could not be followed: {error}",
                began.elapsed().as_secs_f64()
            ));
        }
    }
    while waiting.until(began + duration) && Instant::now() < began + duration {}
    let ended_early = waiting.ended;
    let watched = began.elapsed();
    let seconds = watched.as_secs_f64();
    let mut found = match seen {
        Seen::All(mut watched) => activity::of_probe(pid, &watched.seen()?, seconds),
        Seen::Samples(sampler) => sampler.finish(seconds),
    };
    notes.append(&mut found.notes);
    let series = memory.map(MemoryWatch::finish);
    let moves = series.as_ref().and_then(|series| moves(series, host, options));
    if series.as_ref().is_some_and(|s| s.intervals.is_empty()) {
        notes.push("it was not watched for long enough to say how fast it changes its memory".into());
    }
    Ok(Profile {
        seconds,
        ended_early,
        process_ended: is_over(pid),
        source: found.source,
        calls: found.calls,
        files: found.files,
        peers: found.peers,
        cannot_move: found.cannot_move,
        memory: series.as_ref().map(|series| series.summary()),
        moves,
        notes,
    })
}

fn moves(series: &Series, host: Option<&str>, options: &Options) -> Option<Moves> {
    let link = link::to(host, options);
    let all = predict::all(series, &link, options);
    let mut by_downtime: Vec<&Prediction> = all.iter().map(|(_, prediction)| prediction).collect();
    by_downtime.sort_by_key(|prediction| (prediction.downtime_us, prediction.total_us));
    let (best, worst) = (by_downtime.first()?, by_downtime.last()?);
    let typical = by_downtime.get(by_downtime.len() / 2)?;
    Some(Moves { typical: **typical, best: **best, worst: **worst, best_moment: moment::best(series, &all), link })
}

enum Seen {
    All(Box<Watched>),
    Samples(Sampler),
}

/// Lets time pass.
struct Waiting<'w> {
    pid: i32,
    end: Instant,
    cancel: &'w Cancel,
    seen: &'w mut Seen,
    ended: Option<String>,
}

impl Waiting<'_> {
    /// Waits until then. False: the time is over, or the process is.
    fn until(&mut self, then: Instant) -> bool {
        const SLICE: Duration = Duration::from_millis(50);
        let then = then.min(self.end);
        loop {
            if let Seen::Samples(sampler) = self.seen {
                sampler.look();
            }
            let left = then.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(SLICE));
            if let Err(why) = self.cancel.check() {
                self.ended = Some(why.to_string());
            } else if is_over(self.pid) {
                self.ended = Some("the process ended".into());
            }
            if self.ended.is_some() {
                return false;
            }
            if Instant::now() >= then {
                return Instant::now() < self.end;
            }
        }
    }
}
