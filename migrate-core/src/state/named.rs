//! A process by PID and start time: together they never come to mean another one.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

use migrate_linux::pidfd::PidFd;
use nix::libc;

use crate::proc::is_gone;
use crate::proc::process::{Process, has_ended};
use crate::proc::stat::{Stat, read_stat};
use crate::proc::status::read_task_status;

/// A process of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its PID.
    pub pid: i32,
    /// When it started: clock ticks since boot, field 22 of proc_pid_stat(5).
    pub start: u64,
}

impl Named {
    /// The process that has this PID now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> io::Result<Named> {
        Ok(Named { pid, start: read_stat(pid)?.starttime })
    }

    fn stat(&self) -> io::Result<Option<Stat>> {
        match read_stat(self.pid) {
            Ok(stat) => Ok(Some(stat).filter(|s| s.starttime == self.start && !has_ended(s))),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn is_there(&self) -> io::Result<bool> {
        Ok(self.stat()?.is_some())
    }

    /// Sends it a signal. Ok(false): it has ended.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2).
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        // The descriptor first: if the PID is still this process's afterwards, it is what the descriptor means.
        let pidfd = match PidFd::open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(_) if !self.is_there()? => return Ok(false),
            Err(e) => return Err(e),
        };
        if !self.is_there()? {
            return Ok(false);
        }
        match pidfd.send_signal(signal) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Whether it stands by a stop signal, for who has found that its tracer died. None: it has ended.
    ///
    /// What tells of a process's end, its locks and connections among others, comes before its tracees are let go of (`exit_files`,
    /// `exit_notify`: kernel/exit.c), and those take their time to stop by a signal that waits for them. So this takes up to
    /// a tenth of a second where it runs, and does not return while it is traced.
    ///
    /// # Errors
    /// `EBUSY` when it is still traced after more than a second; those of reading /proc.
    pub fn stands_let_go(&self) -> io::Result<Option<bool>> {
        let (mut looks, mut runs) = (0, 0);
        while runs < 20 {
            if self.stat()?.is_none() {
                return Ok(None);
            }
            // Of a thread that is alive. One that ends meanwhile is none in the next look.
            let status = match Process::of(self.pid).and_then(|process| read_task_status(self.pid, process.alive)) {
                Ok(status) => status,
                Err(e) if is_gone(&e) => continue,
                Err(e) => return Err(e),
            };
            if status.state == b'T' {
                return Ok(Some(true));
            }
            let stops = status.shared_pending & 1 << (libc::SIGSTOP - 1) != 0;
            runs = if stops || status.tracer_pid != 0 { 0 } else { runs + 1 };
            looks += 1;
            if looks > 300 {
                let why = format!("process {} is traced by process {}", self.pid, status.tracer_pid);
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(Some(false))
    }

    /// Continues it if it stands by a stop signal, once its dead tracer has let go of it. Ok(false): it has ended.
    ///
    /// # Errors
    /// Those of [`Named::stands_let_go`] and [`Named::signal`].
    pub fn go_on(&self) -> io::Result<bool> {
        match self.stands_let_go()? {
            None => Ok(false),
            // One that runs is spared the signal: it may have a handler for it.
            Some(false) => Ok(true),
            Some(true) => self.signal(libc::SIGCONT),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

impl FromStr for Named {
    type Err = ();

    fn from_str(text: &str) -> Result<Named, ()> {
        let (pid, start) = text.trim_end().split_once(' ').ok_or(())?;
        Ok(Named { pid: pid.parse().ok().filter(|p| *p > 0).ok_or(())?, start: start.parse().map_err(|_| ())? })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn one_that_is_about_to_stand_is_waited_for() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
        let named = Named::of(child.id() as i32).expect("it is there");
        for _ in 0..100 {
            // It takes a moment until that shows.
            assert!(named.signal(libc::SIGSTOP).expect("sent"));
            assert_eq!(named.stands_let_go().expect("asked"), Some(true));
            assert!(named.go_on().expect("asked"));
        }
        assert_eq!(named.stands_let_go().expect("asked"), Some(false));
        child.kill().expect("killed");
        child.wait().expect("waited");
        assert_eq!(named.stands_let_go().expect("asked"), None);
    }

    #[test]
    fn a_reused_number_is_never_signalled() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
        let named = Named::of(child.id() as i32).expect("it is there");
        assert_eq!(named.to_string().parse(), Ok(named));
        let earlier = Named { start: named.start - 1, ..named };
        assert!(!earlier.signal(libc::SIGKILL).expect("asked"));
        assert!(named.is_there().expect("asked") && named.go_on().expect("asked"));
        assert!(named.signal(libc::SIGKILL).expect("killed"));
        child.wait().expect("waited");
        assert!(!named.signal(libc::SIGKILL).expect("asked") && !named.is_there().expect("asked"));
        for bad in ["", "1", "0 5", "-1 5", "x 5", "5 x"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }
}
