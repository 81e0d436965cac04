//! What this process is to the new one: a passer-by on the host, or the init of its PID namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use migrate_linux::namespaces::{self, ForkResult};
use migrate_linux::pid_namespace;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::clocks::Offsets;
use crate::error::{Doing, Error, Result};
use crate::state::Named;

/// What this process is to the new one.
pub enum Init {
    /// Nothing: its numbers are the host's, and whoever reaps orphans reaps it.
    Host,
    /// Its init: reaps, passes signals on, ends as it ends.
    Namespace {
        /// The mount namespace that the new process belongs to.
        mounts: OwnedFd,
        /// Its PID inside.
        pid: Option<i32>,
    },
}

/// Goes on as the init of a fresh PID namespace; the process that called waits for it and ends as it ends.
pub fn enter_pid_namespace() -> Result<Init> {
    let mounts: OwnedFd = std::fs::File::open("/proc/self/ns/mnt").doing(|| "open the mount namespace".into())?.into();
    namespaces::unshare_pid_and_mount().doing(|| "make a PID namespace".into())?;
    match namespaces::fork_single_threaded().doing(|| "make the init of a PID namespace".into())? {
        ForkResult::Parent { child } => wait_and_end_like(child.as_raw()),
        ForkResult::Child => {}
    }
    // This init dies with whoever started it only until the process runs; see `see_it_through`.
    pid_namespace::mount_proc().doing(|| "mount /proc of the new PID namespace".into())?;
    Ok(Init::Namespace { mounts, pid: None })
}

/// Has what this process makes from now on live in a new time namespace with these offsets.
pub fn enter_time_namespace(offsets: &Offsets) -> Result<()> {
    namespaces::unshare_time()
        .doing(|| "make a time namespace for the process (CONFIG_TIME_NS); --clock host does without".into())?;
    std::fs::write("/proc/self/timens_offsets", offsets.text())
        .doing(|| format!("set the clocks of the process to {offsets:?} from this host's"))
}

fn wait_and_end_like(child: i32) -> ! {
    block_forwarded();
    loop {
        match waitpid(Pid::from_raw(child), None) {
            Ok(WaitStatus::Exited(_, code)) => std::process::exit(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => std::process::exit(128 + signal as i32),
            Err(Errno::ECHILD) => std::process::exit(1),
            _ => {}
        }
    }
}

fn block_forwarded() {
    let mut set = SigSet::empty();
    FORWARDED.into_iter().for_each(|s| set.add(s));
    // Fails only for a wrong `how`.
    let _ = set.thread_block();
}

const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

impl Init {
    /// The mount namespace in which the new process must be made, when it is not this one's.
    pub fn spawn_namespace(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Init::Host => None,
            Init::Namespace { mounts, .. } => Some(mounts.as_fd()),
        }
    }

    /// It runs.
    pub fn runs(&mut self, inside: i32) {
        if let Init::Namespace { pid, .. } = self {
            *pid = Some(inside);
        }
    }

    /// The process of this PID as the host's agent names it. Only while this process has a single thread.
    pub fn named(&self, inside: i32) -> Result<Named> {
        let process = Named::of(inside).doing(|| format!("read new process {inside}"))?;
        let seen = match self {
            Init::Host => Some(inside),
            Init::Namespace { mounts, .. } => pid_namespace::pid_seen_from(mounts.as_fd(), inside),
        };
        let pid = seen.ok_or_else(|| Error::Invalid(format!("the host does not show new process {inside}")))?;
        Ok(Named { pid, ..process })
    }

    /// Returns when this process is no longer needed.
    pub fn see_it_through(self) -> Result<()> {
        let Init::Namespace { pid: Some(pid), .. } = self else { return Ok(()) };
        let mut set = SigSet::empty();
        FORWARDED.into_iter().chain([Signal::SIGCHLD]).for_each(|s| set.add(s));
        set.thread_block().map_err(std::io::Error::from).doing(|| "block signals".into())?;
        loop {
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                    Ok(WaitStatus::Exited(who, code)) if who.as_raw() == pid => std::process::exit(code),
                    Ok(WaitStatus::Signaled(who, signal, _)) if who.as_raw() == pid => {
                        std::process::exit(128 + signal as i32)
                    }
                    Ok(WaitStatus::StillAlive) => break,
                    Err(Errno::ECHILD) => return Err(Error::Invalid("the process is gone".into())),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(e) => return Err(Error::io("wait for the process".into(), e.into())),
                }
            }
            let signal = set.wait().map_err(std::io::Error::from).doing(|| "wait for a signal".into())?;
            if signal != Signal::SIGCHLD {
                // It may have ended since.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }
}
