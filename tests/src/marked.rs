//! Processes are known by a mark in their environment, wherever they are and whatever their PID is by now.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that holds the mark.
pub const VARIABLE: &str = "MIGRATE_TEST";

/// The PIDs of the live processes with a mark, in this PID namespace and those below it.
pub fn find(mark: &str) -> Vec<i32> {
    let wanted = format!("{VARIABLE}={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // a zombie has no environment
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if pid != own() && environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// Kills every one of them.
pub fn end(mark: &str) {
    for pid in find(mark) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn own() -> i32 {
    Pid::this().as_raw()
}
