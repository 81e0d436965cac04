//! `push`: asks this host's agent, or does the work here when there is none.

use std::io::{self, Write};
use std::process::{self, ExitCode};

use migrate_core::cancel::Cancel;
use migrate_core::phase::{Outcome, Report};
use migrate_core::phases::source;
use nix::unistd::Uid;

use crate::agent::Agent;
use crate::arguments::Push;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::{bare_report, details, json};

/// Moves the process and says how that ended, also as the exit status.
pub fn run(wanted: Push) -> ExitCode {
    let report = carry_out(&wanted);
    conclude(&wanted, &report);
    ExitCode::from(report.exit_status())
}

fn carry_out(wanted: &Push) -> Report {
    let plan = wanted.plan();
    if !Uid::effective().is_root() {
        let why = "moving a process needs root: run it with sudo".into();
        return bare_report(&plan, Outcome::StayedHere { why });
    }
    let agent = if wanted.no_agent { None } else { Agent::at(&wanted.socket) };
    let cancel = Cancel::default();
    if let Err(error) = watch_signals(agent.is_some(), wanted, cancel.clone()) {
        return bare_report(&plan, Outcome::StayedHere { why: format!("taking over Ctrl-C: {error}") });
    }
    let progress = Progress::start(wanted.quiet);
    let mut watcher = progress.watcher();
    let report = match agent {
        Some(agent) => agent.push(plan, &mut watcher),
        None => source::run(plan, &mut watcher, cancel),
    };
    drop(watcher);
    progress.finish();
    report
}

/// An agent needs nobody to watch it. Here, what can be undone is undone, and the rest brought to an end.
fn watch_signals(by_agent: bool, wanted: &Push, cancel: Cancel) -> nix::Result<()> {
    let pid = wanted.pid;
    interrupt::take_over(move || {
        if by_agent {
            interrupt::say(&format!("the move of {pid} goes on in this host's agent, whose log says how it ends"));
            process::exit(3);
        }
        cancel.cancel("the push was interrupted");
        interrupt::say("rolling back, or finishing what can no longer be undone; wait");
    })
}

fn conclude(wanted: &Push, report: &Report) {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // A closed pipe changes nothing about the move.
    let _ = match report.outcome {
        Outcome::Moved => writeln!(out, "{}", report.sentence()),
        _ => writeln!(err, "migrate-cli: {}", report.sentence()),
    };
    if wanted.verbose {
        let _ = write!(out, "{}", details(report));
    }
    if wanted.quiet {
        // With progress they have been shown already.
        for warning in &report.warnings {
            let _ = writeln!(err, "warning: {warning}");
        }
    }
    if wanted.json {
        let _ = writeln!(out, "{}", json(report));
    }
    let _ = out.flush();
}
