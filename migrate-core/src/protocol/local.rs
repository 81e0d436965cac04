//! What a client says to its own host's agent over the unix socket, and what it hears. One request a connection.

use bincode::{Decode, Encode};

use super::preamble::MigrationId;
use crate::phase::{Event, Phase, Report};
use crate::plan::Plan;

/// One migration away from this host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Leaving {
    /// The process, as the agent sees it.
    pub pid: i32,
    /// Where it goes, as the operator wrote it.
    pub host: String,
    /// Where it stands.
    pub phase: Phase,
    /// Since the request, microseconds.
    pub us: u64,
}

/// One migration to this host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Arriving {
    /// Which.
    pub id: MigrationId,
    /// The address that it comes from.
    pub from: String,
    /// The process of the agent that serves it.
    pub served_by: u32,
}

/// What an agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentStatus {
    /// The agent's own version.
    pub version: String,
    /// Its protocol version.
    pub protocol: u32,
    /// Where it listens, ADDR:PORT.
    pub listen: String,
    /// Migrations away from here.
    pub leaving: Vec<Leaving>,
    /// Migrations to here.
    pub arriving: Vec<Arriving>,
}

crate::wire_messages! {
    /// What a client may ask.
    #[derive(Debug, Clone, PartialEq)]
    pub enum LocalRequest {
        /// Move a process. Answered by events, then the report. The move goes on when the client leaves.
        1 = Push(Plan) @ 64 * 1024,
        /// What the agent is doing.
        2 = Status,
    }
}

crate::wire_messages! {
    /// What an agent answers.
    #[derive(Debug, Clone, PartialEq)]
    pub enum LocalReply {
        /// Something happened in the move that was asked for.
        1 = Event(Event) @ 1024 * 1024,
        /// It is over. The last message.
        2 = Report(Box<Report>) @ 4 * 1024 * 1024,
        /// What was asked for. The last message.
        3 = Status(AgentStatus) @ 1024 * 1024,
        /// Nothing was done, and why. The last message.
        4 = Refused(String) @ 64 * 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{Measured, Outcome, PageCounts, Round, Throttled, Timing};
    use crate::plan::Options;
    use crate::protocol::connection::{Connection, WireMessage};

    fn bytes_of(message: &impl WireMessage) -> Vec<u8> {
        let mut connection = Connection::new(Vec::new());
        connection.send(message).expect("a Vec takes everything");
        connection.into_stream()
    }

    fn survives<M: WireMessage + PartialEq + std::fmt::Debug>(message: M) {
        assert_eq!(Connection::new(&bytes_of(&message)[..]).receive::<M>().expect("its own bytes"), message);
    }

    fn plan() -> Plan {
        Plan { pid: 4242, host: "hostb:7070".into(), options: Options::default() }
    }

    fn report() -> Report {
        Report {
            outcome: Outcome::InDoubt { why: "no answer".into() },
            pid: 4242,
            pid_there: Some(7),
            name: "redis-server".into(),
            host: "hostb".into(),
            downtime_us: Some(6_300),
            total_us: 2_410_000,
            bytes_sent: 1 << 33,
            compressed_from: 3,
            compressed_to: 2,
            pages: PageCounts { sent: 1, zero: 2, not_needed: 3 },
            rounds: vec![Round { pages: 4, bytes: 5, us: 6 }],
            phases: vec![Timing { name: "freeze".into(), us: 7, frozen: true, part: false }],
            tracker: "pagemap-scan".into(),
            kernel_state: "ptrace".into(),
            clock: "same".into(),
            throttled: Some(Throttled { percent: 8, us: 9, stood_us: 10 }),
            verified: true,
            measured: Some(Measured { us: 11, error_us: 12 }),
            warnings: vec!["something".into()],
        }
    }

    #[test]
    fn requests_and_replies_survive() {
        survives(LocalRequest::Push(plan()));
        survives(LocalRequest::Status);
        survives(LocalReply::Event(Event::Phase(Phase::PreCopy { round: 2 })));
        survives(LocalReply::Event(Event::Progress { sent: 1, expected: 2 }));
        survives(LocalReply::Event(Event::Throttle(20)));
        survives(LocalReply::Report(Box::new(report())));
        survives(LocalReply::Refused("no".into()));
        survives(LocalReply::Status(AgentStatus {
            version: "0.1.0".into(),
            protocol: 1,
            listen: "127.0.0.1:7070".into(),
            leaving: vec![Leaving { pid: 1, host: "b".into(), phase: Phase::Freeze, us: 2 }],
            arriving: vec![Arriving { id: MigrationId([3; 16]), from: "10.0.0.1:5".into(), served_by: 4 }],
        }));
    }

    #[test]
    fn golden_bytes_of_a_status_request() {
        assert_eq!(bytes_of(&LocalRequest::Status), [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
