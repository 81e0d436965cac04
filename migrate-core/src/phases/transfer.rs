//! Transfer: the destination gets everything, and is ready to run the process.

use std::time::Instant;

use super::capture::Captured;
use super::commit::commit;
use super::locks::give_up;
use super::record::Record;
use super::subject::Subject;
use super::undo::UndoList;
use crate::clocks::HostClocks;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::phase::{Outcome, Phase};
use crate::protocol::message::{ToDestination, ToSource};
use crate::resources::file::time_here;
use crate::resources::process::file_locks::LockKind;
use crate::resources::process::late_signals::Read;
use crate::state::{Doubt, Leaving, Named, StateDirectory};

/// The destination could run the process, and does not. The only state that can commit.
#[must_use]
pub struct Prepared<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    pub(super) doubt: Doubt,
    /// The signals that were sent over.
    pub(super) signals: Read,
}

impl Prepared<'_, '_> {
    /// The point of no return.
    pub fn commit(self) -> Outcome {
        commit(self)
    }
}

/// One round trip for Prepare; the pages' barriers come in the same time.
pub fn transfer<'r, 'o>(captured: Captured<'r, 'o>) -> Result<Prepared<'r, 'o>> {
    let Captured { record, mut undo, subject, mut image, signals, timers_since, counted } = captured;
    record.enter(Phase::Transfer);
    let began = Instant::now();
    let held = &mut undo.held;
    let peer = held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
    // Leases are in nobody's way.
    let locks = image.locks.iter().filter(|lock| lock.kind != LockKind::Lease).cloned().collect();
    let stopped = image.process.job_control.stopped;
    image.process.posix_timers.sent_after(timers_since.elapsed());
    image.sent = time_here();
    image.monotonic = HostClocks::now()?.monotonic.saturating_add(subject.clocks.monotonic);
    peer.send(&ToDestination::Prepare(Box::new(image)))?;
    fault::point(7, peer.stream())?;
    // While the destination works.
    let process = Named::of(subject.process.pid).doing(|| format!("read process {}", subject.process))?;
    let (address, host) = (peer.address(), peer.host.clone());
    let doubt = Doubt { id: peer.id, process, address, host, stopped, locks };
    let leaving = Leaving::note(StateDirectory::of_this_host(), &doubt);
    held.leaving = Some(leaving.doing(|| "write the state file".into())?);
    // First the pages: when they fail, the destination waits for them and answers nothing.
    let streams = held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
    streams.finish_round(|_| record.cancel.check()).map_err(|error| peer.reason_for(error))?;
    record.step("send");
    let ready = match peer.receive()? {
        ToSource::Prepared(ready) => ready,
        other => return Err(peer.unexpected(&other)),
    };
    fault::point(8, peer.stream())?;
    ready.warnings.into_iter().for_each(|w| record.warn(w));
    record.step("apply");
    ready.timings.into_iter().for_each(|(name, us)| record.part(name, us));
    record.round(&counted, &streams.counters.snapshot(), began.elapsed());
    record.count(&streams.counters.snapshot(), peer.bytes_sent());
    if ready.locks_wanted {
        give_up(&mut undo, doubt.locks.clone())?;
    }
    Ok(Prepared { record, undo, subject, doubt, signals })
}
