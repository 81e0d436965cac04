//! Processes are known by a mark in their environment, wherever they are and whatever their PID is by now.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

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
        let environment = environment(&entry.path());
        if pid != own() && environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// That of a process; a zombie has none, but if only its first thread is one, the others show it. In the middle of execve(2) none is to be
/// seen either, so one that shows nothing is looked at again.
fn environment(directory: &Path) -> Vec<u8> {
    for _ in 0..20 {
        let bytes = fs::read(directory.join("environ")).unwrap_or_default();
        if !bytes.is_empty() {
            return bytes;
        }
        // A zombie has no executable.
        if fs::read_link(directory.join("exe")).is_err() {
            let threads = fs::read_dir(directory.join("task")).into_iter().flatten().flatten();
            let shown = |thread: fs::DirEntry| fs::read(thread.path().join("environ")).ok();
            return threads.filter_map(shown).find(|bytes| !bytes.is_empty()).unwrap_or_default();
        }
        sleep(Duration::from_millis(1));
    }
    Vec::new()
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
