//! The story of one migration, as the source tells it.
//!
//! Each state is a type of its own that the next step takes by value: a step out of order does not compile, and only
//! [`Prepared`](super::transfer::Prepared) can commit. Whatever a step has changed it adds to the one
//! [`UndoList`](super::undo::UndoList), which runs, newest first, when any step fails: afterwards the process runs here as if
//! nothing had happened.

use migrate_linux::pidfd::PidFd;

use super::preflight::preflight;
use super::record::Record;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::phase::{Observer, Outcome, Report};
use crate::plan::Plan;
use crate::proc::process::Process;

/// Moves one process. Must be called from an OS thread that does nothing else meanwhile: it owns the tracees.
fn migrate(plan: Plan, record: &mut Record<'_>) -> Result<Outcome> {
    let ready = preflight(plan, record)?; // nothing has been changed yet
    let precopied = ready.pre_copy()?; // undo: stop dirty tracking, destination discards
    let frozen = precopied.freeze()?; // undo: thaw
    let captured = frozen.capture()?; // undo: release what capturing held
    let prepared = captured.transfer()?; // undo: tell the peer to discard
    Ok(prepared.commit()) // the point of no return
}

/// Moves one process and reports. Never fails: a failure is an outcome. So is a `cancel` that comes before the point of no return.
pub fn run(plan: Plan, observer: &mut dyn Observer, cancel: Cancel) -> Report {
    let mut record = Record::new(&plan, observer, cancel);
    let (process, reached) = (PidFd::open(plan.pid), Process::of(plan.pid));
    let outcome = migrate(plan, &mut record).or_else(|error| match (process, reached) {
        (Ok(process), _) if process.has_ended() => {
            Ok(Outcome::Ended { why: format!("it has ended meanwhile ({error})") })
        }
        // Whatever was looked at by that thread may have shown nothing.
        (_, Ok(reached)) if reached.is_lost() => {
            let (why, error) = (reached.why_lost(), error.to_string());
            Err(Error::Refused(vec![if error.contains(&why) { error } else { format!("{why} ({error})") }]))
        }
        _ => Err(error),
    });
    record.finish(outcome)
}
