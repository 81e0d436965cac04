//! This host's agent, as a client sees it.

use std::os::unix::net::UnixStream;
use std::path::Path;

use migrate_core::phase::{Observer, Outcome, Report};
use migrate_core::plan::Plan;
use migrate_core::protocol::connection::Connection;
use migrate_core::protocol::local::{LocalReply, LocalRequest};

use crate::report::bare_report;

/// A connection to the agent.
pub struct Agent(Connection<UnixStream>);

impl Agent {
    /// The agent behind `socket`; None when there is none.
    pub fn at(socket: &Path) -> Option<Self> {
        UnixStream::connect(socket).ok().map(|stream| Agent(Connection::new(stream)))
    }

    /// Has the agent carry `plan` out, and waits for the end.
    pub fn push(mut self, plan: Plan, observer: &mut dyn Observer) -> Report {
        if let Err(error) = self.0.send(&LocalRequest::Push(plan.clone())) {
            // It acts on whole requests only.
            let why = format!("this host's agent did not take the request: {error}. --no-agent does without it");
            return bare_report(&plan, Outcome::StayedHere { why });
        }
        loop {
            match self.0.receive::<LocalReply>() {
                Ok(LocalReply::Event(event)) => observer.event(event),
                Ok(LocalReply::Report(report)) => return *report,
                Ok(LocalReply::Refused(why)) => return bare_report(&plan, Outcome::StayedHere { why }),
                Ok(LocalReply::Status(_)) => {}
                Err(error) => return bare_report(&plan, Outcome::InDoubt { why: lost(&plan, &error.to_string()) }),
            }
        }
    }
}

fn lost(plan: &Plan, error: &str) -> String {
    format!(
        "this host's agent did not say how the move ended ({error}): its log does, `migrate-cli status` lists what is in \
         doubt, and a look at the process helps, here as {} and on {}",
        plan.pid, plan.host
    )
}

#[cfg(test)]
mod tests {
    use std::thread;

    use migrate_core::phase::{Event, Phase};
    use migrate_core::plan::Options;

    use super::*;

    fn plan() -> Plan {
        Plan { pid: i32::MAX, host: "beta".into(), options: Options::default() }
    }

    /// What a push through an agent that gives `replies` and goes away comes to.
    fn push(replies: Vec<LocalReply>) -> (Report, Vec<Event>) {
        let (here, there) = UnixStream::pair().expect("a socket pair");
        let agent = thread::spawn(move || {
            let mut client = Connection::new(there);
            assert_eq!(client.receive::<LocalRequest>().expect("a request"), LocalRequest::Push(plan()));
            replies.iter().for_each(|reply| client.send(reply).expect("sent"));
        });
        let mut events = Vec::new();
        let report = Agent(Connection::new(here)).push(plan(), &mut |event| events.push(event));
        agent.join().expect("the agent's side");
        (report, events)
    }

    #[test]
    fn events_and_the_report_come_through() {
        let report = bare_report(&plan(), Outcome::Moved);
        let event = Event::Phase(Phase::Freeze);
        let got = push(vec![LocalReply::Event(event.clone()), LocalReply::Report(Box::new(report.clone()))]);
        assert_eq!(got, (report, vec![event]));
    }

    #[test]
    fn a_refusal_is_a_process_that_stays() {
        let (report, _) = push(vec![LocalReply::Refused("it moves already".into())]);
        assert_eq!(report.outcome, Outcome::StayedHere { why: "it moves already".into() });
    }

    #[test]
    fn an_agent_that_dies_leaves_a_doubt() {
        let (report, _) = push(vec![LocalReply::Event(Event::Phase(Phase::Commit))]);
        assert_eq!(report.exit_status(), 3);
    }
}
