//! The README's table of what moves and what does not, made of what the kinds say of themselves.

use super::process::{self, ProcessCalls};
use super::thread::{self, ThreadCalls};
use super::{Row, file};
use crate::memory::layout;

/// What is no kind of its own.
const IDENTITY: Row =
    ("identity", "PID, thread IDs, process group, session; in a new PID namespace where they are taken");
const CALLS: Row = (
    "system calls in progress",
    "sleeps, poll, select, epoll_wait, futex (with priority inheritance too), read, write, semop, msgsnd, msgrcv, pause, sigsuspend, sigtimedwait go on; the program sees no EINTR. Those with a time-out end when they would have ended, with a warning where that cannot be known; the time-outs of sockets begin anew, and a wait for a point of CPU time takes longer where that begins at 0",
);
const REST: Row = ("everything else", "refused before anything is touched, by name and with what to do about it");

const CLOCKS: Row = (
    "clocks",
    "CLOCK_MONOTONIC and CLOCK_BOOTTIME go on, in a time namespace where the hosts' differ (or are the host's: `--clock host`)",
);

/// Every kind, and what of it moves.
pub fn rows() -> Vec<Row> {
    let one = |row: Row| vec![row];
    let all = [
        layout::KINDS.to_vec(),
        one(process::memory_map::ROW),
        one(process::lock_future::ROW),
        one(IDENTITY),
        one(thread::ENDED_FIRST),
        one(thread::cpu::ROW),
        one(CALLS),
        one(CLOCKS),
        one(thread::CREDENTIALS),
        one(thread::confinement::ROW),
        ThreadCalls::KINDS.to_vec(),
        ProcessCalls::KINDS.to_vec(),
        one(process::posix_timers::ROW),
        one(process::job_control::ROW),
        one(process::adjustments::ROW),
        one(process::limits::ROW),
        one(process::cpu_time::ROW),
        one(process::surroundings::ROW),
        file::KINDS.to_vec(),
        one(file::owner::ROW),
        one(process::file_locks::ROW),
        one(process::semaphores::ROW),
        one(process::message_queues::ROW),
        one(REST),
    ];
    all.concat()
}

/// The table as it is to be in the README.
pub fn table() -> String {
    let lines = rows().into_iter().map(|(kind, moves)| format!("| {kind} | {moves} |\n"));
    format!("| kind | moves |\n|---|---|\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const BEGIN: &str = "<!-- what-moves:begin -->\n";
    const END: &str = "<!-- what-moves:end -->\n";

    #[test]
    fn the_readme_shows_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).expect("the README");
        let (before, rest) = readme.split_once(BEGIN).expect("where the table begins");
        let (shown, after) = rest.split_once(END).expect("where it ends");
        let table = table();
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(path, [before, BEGIN, &table, END, after].concat()).expect("written");
            return;
        }
        assert!(shown == table, "the table is stale: UPDATE_README=1 cargo test --release -p migrate-core the_readme");
    }

    #[test]
    fn no_kind_is_named_twice() {
        let names: Vec<&str> = rows().iter().map(|(name, _)| *name).collect();
        let unequal: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unequal.len(), "{names:?}");
    }
}
