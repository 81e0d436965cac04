//! One `migrate-cli push` and what it reported.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The object that `push --json` prints on the last line of its standard output.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// `moved`, `stayed` or `in-doubt`.
    pub outcome: String,
    /// The process.
    pub pid: i32,
    /// The destination as it was called.
    pub host: String,
    /// Why it was not moved.
    pub reason: Option<String>,
    /// How long it stood still, microseconds.
    pub downtime_us: Option<u64>,
    /// The same as the schedulers saw it, if that was asked for and is known.
    pub downtime_probed_us: Option<u64>,
    /// By how much that may be wrong.
    pub downtime_probed_error_us: Option<u64>,
    /// All of it, microseconds.
    pub total_us: u64,
    /// Control and pages.
    pub bytes_sent: u64,
    /// Bytes of pages that were sent compressed.
    pub compressed_from: u64,
    /// What they were compressed to.
    pub compressed_to: u64,
    /// Pages that went with their content.
    pub pages_sent: u64,
    /// Rounds of copying.
    pub rounds: Vec<Round>,
    /// Microseconds by phase and step, in the order in which they happened.
    pub phases: Map<String, Value>,
    /// Microseconds of standing still by step, in order.
    pub downtime: Map<String, Value>,
    /// How changed pages were found.
    pub tracker: String,
    /// How the kernel was asked for the state of threads.
    pub kernel_state: String,
    /// `same`, `continued` or `host`.
    pub clock: String,
    /// How it was slowed down.
    pub throttle: Option<Throttle>,
    /// Its memory was compared before it ran there.
    pub verified: bool,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// How a process was slowed down.
#[derive(Debug, Clone, Deserialize)]
pub struct Throttle {
    /// At most.
    pub percent: u8,
    /// Microseconds.
    pub us: u64,
    /// Microseconds of standing.
    pub stood_us: u64,
}

/// One round of copying.
#[derive(Debug, Clone, Deserialize)]
pub struct Round {
    /// Pages sent.
    pub pages: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Microseconds.
    pub us: u64,
}

impl Report {
    /// The sum of the steps of standing still, microseconds.
    pub fn standing_us(&self) -> u64 {
        self.downtime.values().filter_map(Value::as_u64).sum()
    }
}

/// A push that has ended.
#[derive(Debug)]
pub struct Pushed {
    /// The exit status; 128+N when signal N ended it, 124 when it took too long.
    pub status: i32,
    /// None when the last line of standard output is no report.
    pub report: Option<Report>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Pushed {
    /// Of an exit status and what was written.
    pub fn new(status: i32, stdout: String, stderr: String) -> Pushed {
        let report = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Pushed { status, report, stdout, stderr }
    }

    /// The report of a move.
    ///
    /// # Errors
    /// What was said instead, when it did not move.
    pub fn moved(self) -> Result<Report, String> {
        let said = || format!("push ended with {}:\n{}{}", self.status, self.stdout, self.stderr);
        match &self.report {
            Some(report) if self.status == 0 && report.outcome == "moved" => Ok(report.clone()),
            _ => Err(said()),
        }
    }

    /// The reason of a move that was refused.
    ///
    /// # Errors
    /// What was said instead, when it did move or no reason was given.
    pub fn refused(self) -> Result<String, String> {
        let said = || format!("push ended with {}:\n{}{}", self.status, self.stdout, self.stderr);
        let Some(report) = &self.report else { return Err(said()) };
        match &report.reason {
            Some(reason) if self.status == 1 && report.outcome == "stayed" && self.stderr.contains(reason) => {
                Ok(reason.clone())
            }
            _ => Err(said()),
        }
    }
}
