//! Where a migration stands, and how it ended: the one spelling that logs, progress bars, JSON, the local API and the
//! report share.

use std::fmt;
use std::time::Duration;

use bincode::{Decode, Encode};
use serde::Serialize;

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Phase {
    /// Both sides are asked whether the move can work. Nothing has been changed.
    Preflight,
    /// The process runs while its memory is copied; rounds count from 1.
    PreCopy {
        /// Which round, from 1.
        round: u32,
    },
    /// Every thread is being stopped: the downtime begins.
    Freeze,
    /// What changed last is read.
    Capture,
    /// It is sent, and the destination puts it in place.
    Transfer,
    /// The point of no return.
    Commit,
    /// It is over.
    Done(Outcome),
}

impl Phase {
    /// The name in logs, JSON and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Preflight => "preflight",
            Phase::PreCopy { .. } => "pre-copy",
            Phase::Freeze => "freeze",
            Phase::Capture => "capture",
            Phase::Transfer => "transfer",
            Phase::Commit => "commit",
            Phase::Done(_) => "done",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::PreCopy { round } => write!(f, "pre-copy, round {round}"),
            other => f.write_str(other.name()),
        }
    }
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It runs at the destination, and only there.
    Moved,
    /// It runs on the source, as if nothing had happened.
    StayedHere {
        /// Why, whole: object, side, cause and what to do.
        why: String,
    },
    /// The commit was sent and no answer came: the source stays frozen until the operator or the destination says more.
    InDoubt {
        /// What is known, and the commands that settle it.
        why: String,
    },
    /// It has ended on the source before it was moved, and so runs nowhere.
    Ended {
        /// That, and what could not be done with it any more.
        why: String,
    },
}

/// What happens during a migration, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// A phase began.
    Phase(Phase),
    /// Pages went out.
    Progress {
        /// Bytes of the page streams sent so far, all rounds.
        sent: u64,
        /// Bytes that the present round is expected to have sent at its end, all rounds up to it included.
        expected: u64,
    },
    /// Something that the operator should know, and that does not stop the move.
    Warning(String),
    /// It changes its memory faster than it can be sent, and from now on is made to stand for this part of the time, percent.
    Throttle(u8),
}

/// Takes the events of one migration. Called between the steps, also during the freeze: it must not block.
pub trait Observer: Send {
    /// One event.
    fn event(&mut self, event: Event);
}

impl<F: FnMut(Event) + Send> Observer for F {
    fn event(&mut self, event: Event) {
        self(event);
    }
}

/// One pre-copy round, or the last one that ran in the freeze.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Round {
    /// Pages sent.
    pub pages: u64,
    /// Bytes of page stream sent, headers included.
    pub bytes: u64,
    /// Duration in microseconds.
    pub us: u64,
}

/// Which pages went and which did not have to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct PageCounts {
    /// Sent with their content.
    pub sent: u64,
    /// Only zeros: not sent, or sent as a note.
    pub zero: u64,
    /// Never written pages of files that the destination has too.
    pub not_needed: u64,
}

/// How a process was slowed down so that its memory could be copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Throttled {
    /// The greatest part of the time that it was made to stand, percent.
    pub percent: u8,
    /// For how long it was slowed down, microseconds.
    pub us: u64,
    /// For how long it stood of that, microseconds.
    pub stood_us: u64,
}

/// The downtime as the schedulers of both hosts saw it: from when the last thread of the process left its processor here until the first one
/// got on one there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Measured {
    /// Microseconds.
    pub us: u64,
    /// By how much that may be wrong, because the hosts' clocks were compared over the network; 0 on one machine. Microseconds.
    pub error_us: u64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1e3;
        match self.error_us {
            0 => write!(f, "{:.2} ms", ms(self.us)),
            error => write!(f, "{:.2} ± {:.2} ms", ms(self.us), ms(error)),
        }
    }
}

/// One line of "where the time went".
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Timing {
    /// The phase's or the step's name.
    pub name: String,
    /// How long it took, microseconds.
    pub us: u64,
    /// Whether the process stood still during it. Those steps follow each other without a gap and add up to the downtime.
    pub frozen: bool,
    /// A part of the step above it, by the destination's clock: its time is in that one's already.
    pub part: bool,
}

/// What a migration did; the final message of `push`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The process ID on the source, as its agent sees it.
    pub pid: i32,
    /// The process ID at the destination as its agent sees it, when it moved. It differs from `pid` only when the
    /// process got a PID namespace of its own.
    pub pid_there: Option<i32>,
    /// The program's name (comm).
    pub name: String,
    /// The destination as the operator called it.
    pub host: String,
    /// From the stop of the first thread until the destination said that it runs; microseconds. None when the process
    /// was never stopped.
    pub downtime_us: Option<u64>,
    /// From the request to the end, microseconds.
    pub total_us: u64,
    /// All bytes sent, control and pages.
    pub bytes_sent: u64,
    /// Bytes of pages that were sent compressed.
    pub compressed_from: u64,
    /// What they were compressed to.
    pub compressed_to: u64,
    /// Pages.
    pub pages: PageCounts,
    /// Rounds in order.
    pub rounds: Vec<Round>,
    /// Phases and steps, in the order in which they happened.
    pub phases: Vec<Timing>,
    /// How changed pages were found: `pagemap-scan`, `soft-dirty` or `none`.
    pub tracker: String,
    /// How the kernel was asked for the state of threads: ebpf or ptrace.
    pub kernel_state: String,
    /// What its clocks are there: `same` (the hosts' do not differ), `continued` (in a time namespace) or `host`.
    pub clock: String,
    /// How it was slowed down; None: it was not.
    pub throttled: Option<Throttled>,
    /// Its memory was compared, and was the same there, before it ran there.
    pub verified: bool,
    /// The downtime by other means, if that was asked for and is known.
    pub measured: Option<Measured>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

impl Report {
    /// The exit status of `push`: 0 moved, 1 stayed, 3 in doubt.
    pub fn exit_status(&self) -> u8 {
        match self.outcome {
            Outcome::Moved => 0,
            Outcome::StayedHere { .. } | Outcome::Ended { .. } => 1,
            Outcome::InDoubt { .. } => 3,
        }
    }

    /// The sentence that ends a push.
    pub fn sentence(&self) -> String {
        let who = format!("{} ({})", self.pid, self.name);
        match &self.outcome {
            Outcome::Moved => {
                let measured =
                    self.measured.map_or(String::new(), |measured| format!(" ({measured} by the schedulers)"));
                let stood = self
                    .downtime_us
                    .map_or(String::new(), |us| format!("; it stood still for {}{measured}", display_duration(us)));
                let there = match self.pid_there {
                    Some(pid) if pid != self.pid => format!(", where its agent sees it as {pid}"),
                    _ => String::new(),
                };
                format!("moved {who} to {}{there} in {}{stood}", self.host, display_duration(self.total_us))
            }
            Outcome::StayedHere { why } if self.name.is_empty() => format!("{} was not moved: {why}", self.pid),
            Outcome::StayedHere { why } => format!("{who} stays here and runs on: {why}"),
            Outcome::Ended { why } => format!("{who} was not moved: {why}"),
            Outcome::InDoubt { why } => format!("{who} is in doubt and stays frozen here: {why}"),
        }
    }
}

/// Microseconds as a person reads them: `6.3 ms`, `182 ms`, `2.41 s`.
pub fn display_duration(us: u64) -> String {
    let d = Duration::from_micros(us);
    match us {
        0..=9_999 => format!("{:.1} ms", d.as_secs_f64() * 1e3),
        10_000..=999_999 => format!("{:.0} ms", d.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", d.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(display_duration(6_300), "6.3 ms");
        assert_eq!(display_duration(182_400), "182 ms");
        assert_eq!(display_duration(2_410_000), "2.41 s");
    }
}
