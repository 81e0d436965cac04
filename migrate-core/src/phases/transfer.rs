//! Transfer: the destination gets everything, and is ready to run the process.

use super::capture::Captured;
use super::commit::commit;
use super::record::Record;
use super::subject::Subject;
use super::undo::UndoList;
use crate::error::{Error, Result};
use crate::phase::{Outcome, Phase, Round};
use crate::protocol::message::{ToDestination, ToSource};

/// The destination could run the process, and does not. The only state that can commit.
#[must_use]
pub struct Prepared<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
}

impl Prepared<'_, '_> {
    /// The point of no return.
    pub fn commit(self) -> Outcome {
        commit(self)
    }
}

/// One round trip for Prepare; the pages' barriers come in the same time.
pub fn transfer<'r, 'o>(captured: Captured<'r, 'o>) -> Result<Prepared<'r, 'o>> {
    let Captured { record, mut undo, subject, image } = captured;
    record.enter(Phase::Transfer);
    let began = std::time::Instant::now();
    let held = &mut undo.held;
    let peer = held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
    peer.send(&ToDestination::Prepare(image))?;
    // Should this agent be killed from here on, the process must stand and not run.
    if let Some(frozen) = held.frozen.as_mut() {
        frozen.pin(subject.pid)?;
    }
    let ready = match peer.receive()? {
        ToSource::Prepared(ready) => ready,
        other => return Err(peer.unexpected(&other)),
    };
    let streams = held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
    streams.finish_round()?;
    ready.warnings.into_iter().for_each(|w| record.warn(w));
    for (name, us) in ready.timings {
        record.timing(name, std::time::Duration::from_micros(us), true);
    }
    record.count(&streams.counters, peer.bytes_sent());
    record.rounds.push(Round {
        pages: record.pages.sent,
        bytes: record.bytes_sent,
        us: began.elapsed().as_micros() as u64,
    });
    Ok(Prepared { record, undo, subject })
}
