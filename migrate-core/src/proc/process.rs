//! A process, and the thread by which it is reached.
//!
//! A process is called by the ID of its first thread, also after that has ended (pthread_exit(3) in `main`) while others go on: it stays as
//! a zombie until the last of them ends. But what that thread had, the kernel has let go of: the memory, the descriptors, the directories,
//! the namespaces (`exit_mm`, `exit_files`, `exit_fs`, `exit_task_namespaces`: kernel/exit.c). /proc/PID/maps and /proc/PID/fd are empty,
//! process_vm_readv(2) and pidfd_getfd(2) find nothing. The other threads have all that still, and each of them can be named wherever a
//! process can: /proc has a directory for it, too, though it does not list that.
//!
//! So there are two numbers. For nearly every process they are one.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use migrate_linux::pidfd::PidFd;

use super::is_gone;
use super::listing::read_tids;
use super::stat::{Stat, read_stat, read_task_stat};

/// A process of this host. Shown by its PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its PID: what it is called by, sent signals by and waited for by, in messages, to the other host, and in files.
    pub pid: i32,
    /// A thread of it that had not ended when this was looked for; the first one, unless that had. By this ID is reached what all threads
    /// share: memory, descriptors, directories, namespaces, and by ptrace the process itself.
    pub alive: i32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(f)
    }
}

impl Process {
    /// Looks for a thread that is alive: the oldest, which is the likeliest to stay. If none is, it is the first one.
    ///
    /// # Errors
    /// There is no such process, or /proc cannot be read.
    pub fn of(pid: i32) -> io::Result<Process> {
        let first = Process { pid, alive: pid };
        if !is_ending(&read_task_stat(pid, pid)?) {
            return Ok(first);
        }
        let mut oldest = None;
        for tid in read_tids(pid)? {
            match read_task_stat(pid, tid) {
                Ok(stat) if !is_ending(&stat) => oldest = oldest.into_iter().chain([(stat.starttime, tid)]).min(),
                Ok(_) => {}
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(oldest.map_or(first, |(_, alive)| Process { pid, alive }))
    }

    /// Another process of which nothing was seen by its PID. None: nor is there anything, for no thread of it goes on without the first.
    pub fn without_first(pid: i32) -> Option<Process> {
        // Of one with a single thread, as every kernel thread is, this costs little: its directory has two links more than threads.
        let threads = fs::metadata(format!("/proc/{pid}/task")).ok()?.nlink().checked_sub(2)?;
        Process::of(pid).ok().filter(|process| threads > 1 && process.first_has_ended())
    }

    /// Whether its first thread has ended while others go on.
    pub fn first_has_ended(&self) -> bool {
        self.alive != self.pid
    }

    /// Whether the thread by which it is reached has ended since: then what was seen by it is not to be relied on.
    pub fn is_lost(&self) -> bool {
        read_task_stat(self.pid, self.alive).map_or(true, |stat| is_ending(&stat))
    }

    /// The reason that it is, once it is lost.
    pub fn why_lost(&self) -> String {
        let which = if self.first_has_ended() { format!("thread {}", self.alive) } else { "its first thread".into() };
        format!("{which}, by which it was looked at, has ended while others go on; push it again")
    }

    /// Opens it for its descriptors to be taken.
    ///
    /// # Errors
    /// Those of [`PidFd::open`]; `EINVAL` besides if its first thread has ended and the kernel has no descriptors of other threads
    /// (before Linux 6.9).
    pub fn open(&self) -> io::Result<PidFd> {
        if !self.first_has_ended() {
            return PidFd::open(self.pid);
        }
        let opened = PidFd::open_thread(self.alive)?;
        // It was there before, and still is: the number has not come to mean another thread in between.
        if self.is_lost() { Err(io::Error::from_raw_os_error(nix::libc::ESRCH)) } else { Ok(opened) }
    }
}

fn is_ending(stat: &Stat) -> bool {
    matches!(stat.state, b'Z' | b'X')
}

/// Whether a process has ended, every thread of it; perhaps without having been waited for. `stat`: of its first thread.
pub fn has_ended(stat: &Stat) -> bool {
    is_ending(stat) && stat.num_threads <= 1
}

/// Whether there is no such process, or it has ended.
pub fn is_over(pid: i32) -> bool {
    read_stat(pid).map_or(true, |stat| has_ended(&stat))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn of_nearly_every_process_the_two_numbers_are_one() {
        let pid = std::process::id() as i32;
        let own = Process::of(pid).unwrap();
        assert_eq!(own, Process { pid, alive: pid });
        assert!(!own.first_has_ended() && !own.is_lost() && !is_over(pid));
        assert_eq!(Process::without_first(pid), None);
        assert!(!own.open().unwrap().has_ended());
        assert_eq!(own.to_string(), pid.to_string());
    }

    #[test]
    fn one_that_has_ended_is_over_also_before_it_is_waited_for() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        while !is_over(pid) {
            std::thread::yield_now();
        }
        let process = Process::of(pid).unwrap();
        assert!(!process.first_has_ended() && process.is_lost());
        assert_eq!(Process::without_first(pid), None);
        child.wait().unwrap();
        assert!(is_over(pid) && is_gone(&Process::of(pid).unwrap_err()));
    }
}
