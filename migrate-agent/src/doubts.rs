//! Migrations whose outcome is not known: the agent asks on, and answers those who ask it.

use std::convert::Infallible;
use std::time::Duration;

use migrate_core::protocol::preamble::MigrationId;
use migrate_core::protocol::question::{Answer, ask};
use migrate_core::state::{Doubt, Place, Settled, StateDirectory, Verdict};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// Between two looks at the state files.
const PAUSE: Duration = Duration::from_secs(5);

/// What a destination may take to accept a question, and to answer it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a migration to this host.
pub fn answer(id: MigrationId) -> Answer {
    match StateDirectory::of_this_host().settle(id) {
        Ok(Verdict::Committed(process)) => Answer::Committed(process.pid),
        Ok(Verdict::Refused) => Answer::Refused,
        Ok(Verdict::Unknown) => Answer::Unknown,
        Err(error) => Answer::Failed(format!("the state file there: {error}")),
    }
}

/// Finishes what dead processes have left, of migrations to this host and away from it, for ever.
pub async fn settle() -> Infallible {
    loop {
        if let Err(error) = spawn_blocking(settle_once).await {
            tracing::warn!("looking at the state files: {error}");
        }
        sleep(PAUSE).await;
    }
}

fn settle_once() {
    let states = StateDirectory::of_this_host();
    states.sweep();
    let doubts = states.doubts().unwrap_or_else(|error| {
        tracing::warn!("looking for migrations in doubt: {error}");
        Vec::new()
    });
    for doubt in doubts {
        let Some(place) = place_of(&doubt) else { continue };
        match states.resolve(doubt.id, place) {
            Ok(None) | Ok(Some(Settled { was_there: false, .. })) => {}
            Ok(Some(Settled { doubt: Doubt { process, host, .. }, warning, .. })) => {
                match place {
                    Place::Here => tracing::info!("{} was not taken over by {host}: it goes on here", process.pid),
                    Place::There => tracing::info!("{} runs on {host}: ended what stood here", process.pid),
                }
                if let Some(warning) = warning {
                    tracing::warn!("{}: {warning}", process.pid);
                }
            }
            Err(error) => tracing::warn!("settling migration {}: {error}", doubt.id),
        }
    }
}

/// Where its process runs; None while that is not known.
fn place_of(doubt: &Doubt) -> Option<Place> {
    let Doubt { id, process, address, host, .. } = doubt;
    if process.is_there().is_ok_and(|there| !there) {
        return Some(Place::There); // nothing to settle: it has been ended here
    }
    let why = match ask(*address, *id, PATIENCE) {
        Ok(Answer::Committed(_)) => return Some(Place::There),
        Ok(Answer::Refused) => return Some(Place::Here),
        Ok(Answer::Unknown) => "it knows nothing of that migration".into(),
        Ok(Answer::Failed(why)) => why,
        Err(error) => error.to_string(),
    };
    tracing::warn!("{} stands here in doubt, migration {id}; {host} ({address}): {why}", process.pid);
    None
}
