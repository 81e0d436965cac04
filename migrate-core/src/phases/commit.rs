//! Commit: from here on the process runs at the destination, or nobody knows.

use super::record::Record;
use super::transfer::Prepared;
use super::undo::UndoList;
use crate::error::Error;
use crate::phase::{Outcome, Phase};
use crate::protocol::message::{ToDestination, ToSource};

/// Tells the destination to run it. Never returns to a state in which both could run.
pub fn commit(prepared: Prepared<'_, '_>) -> Outcome {
    let Prepared { record, mut undo, subject } = prepared;
    record.enter(Phase::Commit);
    let Some(peer) = undo.held.peer.as_mut() else {
        return Outcome::StayedHere { why: "the destination is gone".into() };
    };
    let host = peer.host.clone();
    let answer = peer.send(&ToDestination::Commit).and_then(|()| peer.receive());
    if let Err(error @ Error::RefusedThere { .. }) = &answer {
        // It has said itself that it does not run it, and has discarded it.
        let why = error.to_string();
        drop(undo);
        record.runs_again();
        return Outcome::StayedHere { why };
    }
    undo.disarm();
    match answer {
        Ok(ToSource::Running(running)) => {
            record.runs_again();
            record.pid_there = Some(running.pid);
            record.timing("resume there", std::time::Duration::from_micros(running.resume_us), true);
            if let Some(frozen) = undo.held.frozen.take() {
                frozen.kill(subject.pid);
            }
            if let Some(streams) = undo.held.streams.take() {
                streams.close();
            }
            Outcome::Moved
        }
        Ok(other) => in_doubt(record, undo, subject.pid, &host, &format!("it answered {other:?}")),
        Err(error) => in_doubt(record, undo, subject.pid, &host, &error.to_string()),
    }
}

/// The process is left standing here: stopped, no longer traced.
fn in_doubt(record: &mut Record<'_>, mut undo: UndoList, pid: i32, host: &str, what: &str) -> Outcome {
    let mut note = String::new();
    if let Some(frozen) = undo.held.frozen.take()
        && let Err(error) = frozen.leave_standing()
    {
        note = format!(" ({error})");
    }
    record.runs_again();
    Outcome::InDoubt {
        why: format!(
            "{host} was told to run it, and did not answer: {what}. It stands still here (stopped){note}. Look whether it runs on {host}. \
             If it does: kill -KILL {pid}. If it does not: kill -CONT {pid}"
        ),
    }
}
