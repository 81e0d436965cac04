//! The migrations away from this host that are running: one for a process at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use migrate_core::cancel::Cancel;
use migrate_core::phase::Phase;
use migrate_core::plan::Plan;
use migrate_core::protocol::local::Leaving;
use tokio::sync::watch;

/// Those that are running.
#[derive(Default)]
pub struct Departures {
    list: Mutex<List>,
    count: watch::Sender<usize>,
    cancel: Cancel,
}

#[derive(Default)]
struct List {
    /// By the process's ID.
    running: HashMap<i32, Departure>,
    /// No more are taken.
    stopping: bool,
}

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
    /// Enters `plan`, or says that its process is moving already, or that no more are taken.
    pub fn enter(self: &Arc<Self>, plan: &Plan) -> Result<Ticket, String> {
        let mut list = self.lock();
        if list.stopping {
            return Err(format!(
                "this host's agent is being stopped, and {} was not touched: try again when it runs again (systemctl status \
                 migrate-agent), or do without it (--no-agent)",
                plan.pid
            ));
        }
        let ticket = match list.running.entry(plan.pid) {
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
        };
        self.count.send_replace(list.running.len());
        ticket
    }

    /// Takes no more, and has those that are running end: undone, or finished where that cannot be done any more.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.cancel.cancel(
            "this host's agent was told to stop (systemctl stop or restart) before the process had moved: push it again when \
             the agent runs again",
        );
    }

    /// What makes them end early.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// How many there are, now and from now on.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// All that are running.
    pub fn list(&self) -> Vec<Leaving> {
        let leaving = |(pid, d): (&i32, &Departure)| Leaving {
            pid: *pid,
            host: d.host.clone(),
            phase: d.phase.clone(),
            us: u64::try_from(d.since.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        self.lock().running.iter().map(leaving).collect()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Notes where it stands.
    pub fn reached(&self, phase: &Phase) {
        if let Some(departure) = self.departures.lock().running.get_mut(&self.pid) {
            departure.phase = phase.clone();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut list = self.departures.lock();
        list.running.remove(&self.pid);
        self.departures.count.send_replace(list.running.len());
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

    #[test]
    fn once_stopped_none_is_taken_and_those_that_run_are_told() {
        let departures = Arc::new(Departures::default());
        let count = departures.count();
        let ticket = departures.enter(&plan(7)).expect("free");
        assert!(departures.cancel().check().is_ok());
        departures.stop();
        assert_eq!(*count.borrow(), 1, "it is waited for");
        let why = departures.cancel().check().expect_err("told").to_string();
        assert!(why.contains("agent was told to stop"), "{why}");
        let why = departures.enter(&plan(8)).err().expect("refused");
        assert!(why.contains("being stopped") && why.contains("8 was not touched"), "{why}");
        drop(ticket);
        assert_eq!(*count.borrow(), 0);
    }
}
