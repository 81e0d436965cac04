//! The first thread of a process that has ended while others go on: a zombie until the last of them ends, by whose ID the process is
//! called. What it held is gone; what is still shown of it, and its exit status, which is the process's if no thread ends all others
//! (`wait_task_zombie`, kernel/exit.c), moves. Not what it was confined to by seccomp, unless all have that.
//!
//! Over there it is made like any first thread, does what a first thread has to do for the process, and ends as the last thing before the
//! others run. It has no robust futexes and no word that is cleared at its end, so that this changes no memory and wakes nobody.

use bincode::{Decode, Encode};
use migrate_linux::remote::{Batch, RemoteAddr};
use migrate_linux::tracee::Stopped;

use super::name::Name;
use super::personality::Personality;
use super::scheduling::{self, Scheduling, SchedulingImage};
use super::timer_slack::TimerSlack;
use super::{Credentials, CredentialsImage};
use crate::error::{Doing, Error, Result};
use crate::proc::stat::read_task_stat;
use crate::proc::status::read_task_status;
use crate::resources::{Outside, Row, TaskKind};

/// What of it moves.
pub const ROW: Row = (
    "first thread that has ended",
    "the others go on, and it is still a zombie: ID, name, credentials, scheduling, exit status. Moving on from there takes Linux 6.9",
);

/// What travels.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct EndedThread {
    /// exit(2).
    status: u8,
    /// The signals that it blocked.
    signal_mask: u64,
    credentials: CredentialsImage,
    name: <Name as TaskKind>::Image,
    personality: <Personality as TaskKind>::Image,
    timer_slack: <TimerSlack as TaskKind>::Image,
    scheduling: SchedulingImage,
}

impl EndedThread {
    /// Reads what is left of the first thread of this process.
    pub fn read(pid: i32) -> Result<EndedThread> {
        let doing = || format!("read the first thread of {pid}, which has ended");
        let status = read_task_status(pid, pid).doing(doing)?;
        let exit_code = read_task_stat(pid, pid).doing(doing)?.exit_code;
        let number = |name: &str, radix: u32| {
            let path = format!("/proc/{pid}/{name}");
            let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
            u64::from_str_radix(text.trim(), radix).map_err(|_| Error::Invalid(format!("{path} is {text:?}")))
        };
        let mut name = [0; 16];
        name.iter_mut().zip(status.name.iter().take(15)).for_each(|(to, from)| *to = *from);
        Ok(EndedThread {
            // As waitpid(2) shows it.
            status: (exit_code >> 8 & 0xff) as u8,
            signal_mask: status.sig_blocked,
            credentials: CredentialsImage::shown_by(&status),
            name,
            personality: number("personality", 16)?,
            timer_slack: number("timerslack_ns", 10)?,
            scheduling: scheduling::read(pid)?,
        })
    }

    /// Gives the new first thread what is set from outside.
    pub fn restore_outside(&self, tid: i32, outside: &mut Outside) -> Result<()> {
        Scheduling::restore_outside(&self.scheduling, tid, outside)
    }

    /// Adds the calls that give it the rest, but for who it is.
    pub fn restore(&self, batch: &mut Batch) {
        Name::restore(&self.name, batch);
        Personality::restore(&self.personality, batch);
        TimerSlack::restore(&self.timer_slack, batch);
    }

    /// Adds the calls by which it becomes who it was.
    pub fn restore_credentials(&self, batch: &mut Batch) {
        Credentials::restore(&self.credentials, batch);
    }

    /// Has it stand where its end begins. `gadget`: a `syscall` instruction of the program's.
    pub fn end(&self, first: &mut Stopped, gadget: RemoteAddr) -> Result<()> {
        Ok(first.run_to_end(gadget, self.status, self.signal_mask)?)
    }
}
