//! The control connection's messages, and which of them may come when.
//!
//! ```text
//! source                          destination
//!   Offer            ─────────▶   Greeted  → Offered     everything is checked, nothing is made
//!                    ◀─────────   Accepted, or ContentNeeded
//!  [Content          ─────────▶   Offered  → Offered     digests of files whose times differ
//!                    ◀─────────   Accepted]
//!   Build            ─────────▶   Offered  → Building    the process is made; pages may come
//!                    ◀─────────   Built
//!   Early            ─────────▶   Building → Building    what can be made ahead is: open files, threads
//!                    ◀─────────   Made
//!  [Ahead            ─────────▶   Building → Building    what its threads have that hardly ever changes
//!                    ◀─────────   Made]
//!  [Update           ─────────▶   Building → Building    the address space has changed
//!                    ◀─────────   Updated]
//!   Soon             ─────────▶   Building → Building    it is about to stand still
//!                    ◀─────────   Made
//!   Prepare          ─────────▶   Building → Prepared    it could run; it does not
//!                    ◀─────────   Prepared
//!   Commit           ─────────▶   Prepared → Running     it runs here, and only here
//!                    ◀─────────   Running
//!  [LateSignals      ─────────▶   Running  → Running     sent to the original meanwhile; no answer]
//!  [WhenFirst        ─────────▶   Running  → Running     how long it stood still; asked more than once
//!                    ◀─────────   FirstRun]
//! ```
//!
//! To anything the destination may answer Refused, with its reason; then it has discarded what it made. Discard does the same at
//! the source's wish, until Commit. A lost connection before Commit is a Discard.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::clocks::HostClocks;
use crate::identity::FileIdentity;
use crate::image::{Early, EarlyThread, Final, LayoutUpdate, Offer, Skeleton};
use crate::resources::process::late_signals::LateSignal;
use crate::wire_messages;

const MIB: u32 = 1 << 20;

/// So often a destination is asked when a process has first run: each answer tells the time, too.
pub const QUESTIONS: usize = 8;
/// For how long it waits for such a question, and a source for the answer. The process runs, and the source ends the original meanwhile.
pub const MEASURED_FOR: Duration = Duration::from_secs(30);

wire_messages! {
    /// What the source says.
    #[derive(Debug)]
    pub enum ToDestination {
        /// What it has, and what that needs.
        1 = Offer(Box<Offer>) @ 16 * MIB,
        /// Identities with content, of the files asked for.
        2 = Content(Vec<FileIdentity>) @ 16 * MIB,
        /// Make the process.
        3 = Build(Skeleton) @ 64 * MIB,
        /// Its address space has changed.
        4 = Update(LayoutUpdate) @ 64 * MIB,
        /// Everything but pages: make it ready to run.
        5 = Prepare(Box<Final>) @ 64 * MIB,
        /// Run it.
        6 = Commit,
        /// Forget it.
        7 = Discard,
        /// Make these already.
        8 = Early(Early) @ 64 * MIB,
        /// Give it these.
        9 = LateSignals(Vec<LateSignal>) @ 16 * MIB,
        /// Its threads beside the first are these now: give them what they have.
        10 = Ahead(Vec<EarlyThread>) @ 64 * MIB,
        /// When has it first run? And what time is it?
        11 = WhenFirst,
        /// It is about to stand still: be awake.
        12 = Soon,
    }
}

/// What the destination says when the offer is good.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Accepted {
    /// The process gets a PID namespace of its own.
    pub pid_namespace: bool,
    /// The kernels' vDSOs differ: no thread may be in the middle of one when the process is frozen.
    pub other_vdso: bool,
    /// POSIX timers can be made whatever their IDs are.
    pub any_timer_id: bool,
    /// CPU time that has been used can be set.
    pub sets_cpu_time: bool,
    /// The destination's clocks as this is sent.
    pub clocks: HostClocks,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What the destination says when the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Running {
    /// Its PID as the destination's agent sees it.
    pub pid: i32,
    /// From the arrival of Commit to the resumption of the last thread, microseconds.
    pub resume_us: u64,
}

/// When a process has first run on the destination.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FirstRun {
    /// CLOCK_BOOTTIME of the host, nanoseconds. Err: why that is not known.
    pub at: Result<u64, String>,
    /// The destination's clocks as this is sent.
    pub clocks: HostClocks,
}

/// What the destination says when the process could run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ready {
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// The process cannot have its file locks while the original holds them: give them up before Commit.
    pub locks_wanted: bool,
    /// What took how long, microseconds.
    pub timings: Vec<(String, u64)>,
}

wire_messages! {
    /// What the destination says.
    #[derive(Debug)]
    pub enum ToSource {
        /// The offer is good.
        1 = Accepted(Accepted) @ MIB,
        /// Of these files, by their place in the offer, content must be compared.
        2 = ContentNeeded(Vec<u32>) @ MIB,
        /// It cannot be, and why.
        3 = Refused(String) @ MIB,
        /// The process is made.
        4 = Built,
        /// Its address space is as told.
        5 = Updated,
        /// It could run.
        6 = Prepared(Ready) @ MIB,
        /// It runs.
        7 = Running(Running) @ MIB,
        /// Nothing is left of it.
        8 = Discarded,
        /// What can be made ahead is.
        9 = Made,
        /// Then it has first run.
        10 = FirstRun(FirstRun) @ MIB,
    }
}

/// Where the destination of one migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Connected; nothing is known.
    Greeted,
    /// The offer was checked.
    Offered,
    /// The process is there, empty or half filled; it cannot run.
    Building,
    /// It could run.
    Prepared,
    /// It runs here.
    Running,
    /// Nothing is left of it.
    Discarded,
}

/// Every step that there is: in this state, this message (by its kind) leads to that state. Anything else is refused.
pub const TRANSITIONS: &[(State, u16, State)] = &[
    (State::Greeted, 1, State::Offered),
    (State::Offered, 2, State::Offered),
    (State::Offered, 3, State::Building),
    (State::Building, 8, State::Building),
    (State::Building, 10, State::Building),
    (State::Building, 4, State::Building),
    (State::Building, 12, State::Building),
    (State::Building, 5, State::Prepared),
    (State::Prepared, 6, State::Running),
    (State::Running, 9, State::Running),
    (State::Running, 11, State::Running),
    (State::Greeted, 7, State::Discarded),
    (State::Offered, 7, State::Discarded),
    (State::Building, 7, State::Discarded),
    (State::Prepared, 7, State::Discarded),
];

impl State {
    /// The state after a message of this kind; None: it must not come now.
    pub fn after(self, kind: u16) -> Option<State> {
        TRANSITIONS.iter().find(|(from, message, _)| *from == self && *message == kind).map(|(_, _, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connection::WireMessage;

    const STATES: [State; 6] =
        [State::Greeted, State::Offered, State::Building, State::Prepared, State::Running, State::Discarded];

    #[test]
    fn only_prepared_can_run_and_what_runs_cannot_be_discarded() {
        for state in STATES {
            for kind in 0..=20 {
                let next = state.after(kind);
                let commits = state == State::Prepared && kind == ToDestination::Commit.kind();
                let last = [ToDestination::LateSignals(Vec::new()).kind(), ToDestination::WhenFirst.kind()];
                let runs_on = state == State::Running && last.contains(&kind);
                assert_eq!(next == Some(State::Running), commits || runs_on);
                if matches!(state, State::Running | State::Discarded) && !runs_on {
                    assert_eq!(next, None);
                }
            }
        }
    }

    #[test]
    fn the_diagram_above_shows_the_table() {
        let text = include_str!("message.rs");
        for (from, kind, to) in TRANSITIONS {
            let name = ToDestination::kind_name(*kind).expect("a message of the table exists");
            if *to != State::Discarded {
                let line =
                    text.lines().find(|l| l.starts_with("//!") && l.contains(&format!("{name} ")) && l.contains('▶'));
                let line = line.unwrap_or_else(|| panic!("{name} is not in the diagram"));
                assert!(line.contains(&format!("{from:?}")) && line.contains(&format!("{to:?}")), "{line}");
            }
        }
    }
}
