//! Commit: from here on the process runs at the destination, or it is found out where it does.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::record::Record;
use super::subject::Subject;
use super::transfer::Prepared;
use super::undo::UndoList;
use crate::error::{Error, Result};
use crate::memory::{posix_shm, segments};
use crate::phase::{Outcome, Phase};
use crate::protocol::message::{Running, ToDestination, ToSource};
use crate::protocol::question::{Answer, ask};
use crate::resources::process::late_signals::Read;
use crate::state::Doubt;

/// For how long the destination is asked what became of a commit that it did not answer.
const ASKING: Duration = Duration::from_secs(10);
/// Between two questions. The process stands still anyway.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a question may take to be accepted, and then to be answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the destination to run it. Never returns to a state in which both could run.
pub fn commit(prepared: Prepared<'_, '_>) -> Outcome {
    let Prepared { record, mut undo, subject, doubt, signals } = prepared;
    record.enter(Phase::Commit);
    if let Err(error) = pin(&mut undo, subject.process.pid) {
        return stays(record, undo, error.to_string());
    }
    // Whatever happens from here on, panics included, it does not go on here by itself.
    undo.disarm();
    match tell(&mut undo) {
        Ok(running) => {
            undo.held.awake = None;
            record.runs_again("resume");
            record.part("there: let it run", running.resume_us);
            if let Err(error) = send_after(&mut undo, &signals) {
                record.warn(format!("signals that were sent to it while it moved may be lost: {error}"));
            }
            let peer = undo.held.peer.take();
            moved(record, undo, &doubt, running.pid, &subject);
            measured(record, peer);
            Outcome::Moved
        }
        Err(error) => settle(record, undo, &doubt, &subject, &error.to_string()),
    }
}

/// Should this agent be killed after this, the process stands, and does not run.
fn pin(undo: &mut UndoList, pid: i32) -> Result<()> {
    // First of all on a rollback: other steps run calls in it.
    undo.push("take its SIGSTOP back", |held| held.frozen.as_mut().map_or(Ok(()), |frozen| frozen.unpin()));
    match undo.held.frozen.as_mut() {
        Some(frozen) => frozen.pin(pid)?,
        None => return Err(Error::Invalid("nothing is frozen".into())),
    }
    undo.held.fault(9)
}

fn tell(undo: &mut UndoList) -> Result<Running> {
    let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
    peer.send(&ToDestination::Commit)?;
    undo.held.fault(10)?;
    let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
    match peer.receive()? {
        ToSource::Running(running) => undo.held.fault(11).map(|()| running),
        other => Err(peer.unexpected(&other)),
    }
}

/// Has it get there what was sent to it here since it was read.
fn send_after(undo: &mut UndoList, read: &Read) -> Result<()> {
    let Some(frozen) = &undo.held.frozen else { return Ok(()) };
    let late = read.new_ones(&frozen.threads)?;
    match &mut undo.held.peer {
        Some(peer) if !late.is_empty() => peer.send(&ToDestination::LateSignals(late)),
        _ => Ok(()),
    }
}

/// Asks until it is known where the process runs, or too long. `what`: why there is no answer to Commit.
fn settle(record: &mut Record<'_>, mut undo: UndoList, doubt: &Doubt, subject: &Subject, what: &str) -> Outcome {
    undo.held.awake = None;
    let since = Instant::now();
    loop {
        let why = match ask(doubt.address, doubt.id, PATIENCE) {
            Ok(Answer::Committed(pid)) => {
                moved(record, undo, doubt, pid, subject);
                measured(record, None);
                return Outcome::Moved;
            }
            Ok(Answer::Refused) => return stays(record, undo, what.into()),
            Ok(Answer::Unknown) => "its agent knows nothing of this migration".into(),
            Ok(Answer::Failed(why)) => why,
            Err(error) => error.to_string(),
        };
        if since.elapsed() > ASKING {
            return in_doubt(record, undo, doubt, &format!("{what}; asked what became of it: {why}"));
        }
        std::thread::sleep(PAUSE);
    }
}

fn moved(record: &mut Record<'_>, mut undo: UndoList, doubt: &Doubt, pid_there: i32, subject: &Subject) {
    record.runs_again("resume");
    record.pid_there = Some(pid_there);
    if let Some(frozen) = undo.held.frozen.take() {
        frozen.kill(doubt.process.pid);
    }
    let unnamed = &subject.space.unnamed;
    let left = [
        posix_shm::remove_left_behind(unnamed),
        segments::remove_left_behind(unnamed, subject.process.pid),
        subject.sysv.remove_left_behind(subject.process.pid),
    ];
    left.into_iter().flatten().for_each(|what| record.warn(what));
    if let Some(leaving) = undo.held.leaving.take() {
        leaving.settled();
    }
    if let Some(streams) = undo.held.streams.take() {
        streams.close();
    }
}

/// Has the destination tell its part of that, if it was wanted. `peer`: as long as there is a connection to it.
fn measured(record: &mut Record<'_>, peer: Option<Peer>) {
    if let Err(why) = record.measure.ask(peer) {
        record.warn(format!("its downtime was not measured by the schedulers: {why}"));
    }
}

fn stays(record: &mut Record<'_>, undo: UndoList, why: String) -> Outcome {
    undo.roll_back();
    record.runs_again("undo");
    Outcome::StayedHere { why }
}

/// The process is left standing here: stopped, no longer traced. Its state file stays.
fn in_doubt(record: &mut Record<'_>, mut undo: UndoList, doubt: &Doubt, what: &str) -> Outcome {
    let left = undo.held.frozen.take().map_or(Ok(()), |frozen| frozen.leave_standing());
    record.runs_again("ask");
    let note = left.map_or_else(|error| format!(" ({error})"), |()| String::new());
    let Doubt { id, host, .. } = doubt;
    Outcome::InDoubt {
        why: format!(
            "{host} was told to run it, and did not answer: {what}. It stands still here{note}; an agent on this host goes on \
             asking and settles it. To settle it yourself, look whether it runs on {host}. \
             If it does: migrate-cli resolve {id} --there. If it does not, and never will: migrate-cli resolve {id} --here"
        ),
    }
}
