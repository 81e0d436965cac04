//! What a process does, looked at from time to time: where no probe can be had.

use std::collections::{BTreeMap, BTreeSet};

use super::activity::{CallUse, FileUse, Found, unmovable};
use super::calls::name_of;
use crate::proc::link::{LinkTarget, read_fd_link};
use crate::proc::listing::{read_fds, read_tids};
use crate::proc::process::Process;
use crate::proc::syscall::read_syscall;

/// Threads and descriptors that one look is at, at most.
const MOST: usize = 256;

/// Files that are noted, at most.
const MOST_FILES: usize = 4096;

/// Looks at a process.
pub(super) struct Sampler {
    pid: i32,
    looks: u64,
    calls: BTreeMap<u64, u64>,
    files: BTreeSet<String>,
    left_out: bool,
}

impl Sampler {
    pub(super) fn new(pid: i32) -> Sampler {
        Sampler { pid, looks: 0, calls: BTreeMap::new(), files: BTreeSet::new(), left_out: false }
    }

    /// Looks once. Of a process that has ended nothing is seen.
    pub(super) fn look(&mut self) {
        let pid = self.pid;
        self.looks += 1;
        let tids = read_tids(pid).unwrap_or_default();
        let alive = Process::of(pid).map_or(pid, |process| process.alive);
        let numbers = read_fds(alive).unwrap_or_default();
        self.left_out |= tids.len() > MOST || numbers.len() > MOST;
        for call in tids.into_iter().take(MOST).filter_map(|tid| read_syscall(pid, tid).ok().flatten()) {
            *self.calls.entry(call.call).or_default() += 1;
        }
        for number in numbers.into_iter().take(MOST) {
            let Ok(LinkTarget::Path { path, .. }) = read_fd_link(alive, number) else { continue };
            let path = path.to_string_lossy().into_owned();
            if self.files.len() < MOST_FILES || self.files.contains(&path) {
                self.files.insert(path);
            } else {
                self.left_out = true;
            }
        }
    }

    pub(super) fn finish(self, seconds: f64) -> Found {
        let each = seconds * 1e9 / self.looks.max(1) as f64;
        let call = |(number, times): (&u64, &u64)| CallUse {
            name: name_of(u32::try_from(*number).unwrap_or(u32::MAX)),
            count: None,
            failed: None,
            ns: (*times as f64 * each) as u64,
            longest_ns: None,
            inside: 0,
        };
        let mut calls: Vec<CallUse> = self.calls.iter().map(call).collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.ns));
        let files = self.files.into_iter().map(|path| FileUse { path, opened: 1, failed: 0, written: false }).collect();
        let mut notes = vec!["short calls, files open for a moment and peers are not seen so".to_string()];
        if self.left_out {
            notes.push(format!(
                "no more than {MOST} of its threads and descriptors were looked at, and {MOST_FILES} files noted"
            ));
        }
        Found { source: "sampling", cannot_move: unmovable(&calls), calls, files, peers: Vec::new(), notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_is_seen() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || wait.recv());
        let mut sampler = Sampler::new(std::process::id() as i32);
        let file = tempfile::NamedTempFile::new().expect("a file");
        // It may not wait yet.
        let seen = (0..1000).any(|_| {
            sampler.look();
            sampler.calls.keys().any(|number| *number == nix::libc::SYS_futex as u64)
        });
        drop(end);
        let _ = waiting.join();
        assert!(seen);
        let found = sampler.finish(1.0);
        assert!(found.calls.iter().any(|c| c.name == "futex" && c.count.is_none() && c.ns > 0), "{:?}", found.calls);
        let path = file.path().display().to_string();
        assert!(found.files.iter().any(|f| f.path == path));
    }
}
