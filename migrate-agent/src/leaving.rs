//! The migrations away from this host that are running: one for a process at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use migrate_core::phase::Phase;
use migrate_core::plan::Plan;
use migrate_core::protocol::local::Leaving;

/// Those that are running, by the process's ID.
#[derive(Default)]
pub struct Departures(Mutex<HashMap<i32, Departure>>);

struct Departure {
    host: String,
    phase: Phase,
    since: Instant,
}

/// One that is running; off the list when dropped.
pub struct Ticket {
    departures: Arc<Departures>,
    pid: i32,
}

impl Departures {
    /// Enters `plan`, or says that its process is moving already.
    pub fn enter(self: &Arc<Self>, plan: &Plan) -> Result<Ticket, String> {
        match self.lock().entry(plan.pid) {
            Entry::Occupied(running) => Err(format!(
                "{} is being moved to {} already ({}): wait until that has ended",
                plan.pid,
                running.get().host,
                running.get().phase
            )),
            Entry::Vacant(free) => {
                free.insert(Departure { host: plan.host.clone(), phase: Phase::Preflight, since: Instant::now() });
                Ok(Ticket { departures: Arc::clone(self), pid: plan.pid })
            }
        }
    }

    /// All that are running.
    pub fn list(&self) -> Vec<Leaving> {
        let leaving = |(pid, d): (&i32, &Departure)| Leaving {
            pid: *pid,
            host: d.host.clone(),
            phase: d.phase.clone(),
            us: u64::try_from(d.since.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        self.lock().iter().map(leaving).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Departure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Notes where it stands.
    pub fn reached(&self, phase: &Phase) {
        if let Some(departure) = self.departures.lock().get_mut(&self.pid) {
            departure.phase = phase.clone();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.departures.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use migrate_core::plan::Options;

    use super::*;

    fn plan(pid: i32) -> Plan {
        Plan { pid, host: "beta".into(), options: Options::default() }
    }

    #[test]
    fn a_process_moves_once_at_a_time() {
        let departures = Arc::new(Departures::default());
        let ticket = departures.enter(&plan(7)).expect("free");
        ticket.reached(&Phase::Freeze);
        let why = departures.enter(&plan(7)).err().expect("taken");
        assert!(why.contains("7 is being moved to beta") && why.contains("freeze"), "{why}");
        assert!(departures.enter(&plan(8)).is_ok());
        assert_eq!(departures.list().len(), 1, "8 is off the list again");
        drop(ticket);
        assert!(departures.list().is_empty());
        assert!(departures.enter(&plan(7)).is_ok());
    }
}
