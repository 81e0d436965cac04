//! Signals that were sent to the original after it had been read and before it was ended: they wait in its queues, and nobody is there to
//! take them. When the process runs over there they are sent again, once.
//!
//! Not those of its timers, which move and expire over there; nor SIGSTOP, of which the agent itself has sent one. One that was sent by
//! kill(2) or by the kernel comes from the destination's agent there.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::signals;
use migrate_linux::tracee::{RawSiginfo, SIGINFO_SIZE};

use crate::error::Result;
use crate::resources::FrozenThread;
use crate::resources::process::ProcessState;
use crate::resources::thread::ThreadState;
use crate::resources::thread::pending_signals::{QueuedSignals, code, signal_number, timer_that_sent};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LateSignal {
    /// The thread, in its own PID namespace; None: it was sent to the process.
    tid: Option<i32>,
    info: [u8; SIGINFO_SIZE],
}

/// The queues as they were read.
#[derive(Debug, Default)]
pub struct Read {
    process: Vec<RawSiginfo>,
    /// Those of threads that had any, by their IDs.
    threads: Vec<(i32, Vec<RawSiginfo>)>,
}

impl Read {
    /// As they travel.
    pub fn of(process: &ProcessState, threads: &[ThreadState]) -> Read {
        let queues = threads.iter().map(|thread| &thread.calls.pending_signals);
        let queues = queues.filter(|queue| !queue.signals.is_empty());
        let of_thread = |queue: &QueuedSignals| (queue.tid, queue.signals.clone());
        Read { process: process.calls.pending_signals.signals.clone(), threads: queues.map(of_thread).collect() }
    }

    /// What has come since.
    pub fn new_ones(&self, threads: &[FrozenThread]) -> Result<Vec<LateSignal>> {
        let mut late = Vec::new();
        let mut add = |tid, now: Vec<RawSiginfo>, read: &[RawSiginfo]| {
            late.extend(unread(now, read).map(|info| LateSignal { tid, info }));
        };
        if let Some(first) = threads.first() {
            add(None, first.stopped.pending_signals(true)?, &self.process);
        }
        for thread in threads {
            let read = self.threads.iter().find(|(tid, _)| *tid == thread.tid);
            add(Some(thread.tid), thread.stopped.pending_signals(false)?, read.map_or(&[], |(_, read)| read));
        }
        Ok(late)
    }
}

/// Nobody has taken any meanwhile: what was read is still there, and what is new is behind it.
fn unread(now: Vec<RawSiginfo>, read: &[RawSiginfo]) -> impl Iterator<Item = RawSiginfo> {
    let mut read = read.to_vec();
    now.into_iter().filter(move |info| {
        let known = read.iter().position(|other| other == info);
        if let Some(known) = known {
            read.swap_remove(known);
        }
        known.is_none() && is_sent_again(info)
    })
}

fn is_sent_again(info: &RawSiginfo) -> bool {
    const SI_KERNEL: i32 = 0x80;
    match signal_number(info) {
        libc::SIGSTOP | libc::SIGKILL => false,
        _ if timer_that_sent(info).is_some() => false,
        libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF | libc::SIGXCPU => code(info) != SI_KERNEL,
        _ => true,
    }
}

/// Sends them to the new process, by its PID as this process sees it. One whose thread has ended is lost, as it would be anywhere.
pub fn send(late: &[LateSignal], pid: i32) {
    for LateSignal { tid, info } in late {
        if let Err(error) = signals::send(pid, *tid, info) {
            tracing::warn!("a signal ({}) that was sent to {pid} on its way: {error}", signal_number(info));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signal: i32, code: i32, value: u8) -> RawSiginfo {
        let mut info = [0; SIGINFO_SIZE];
        info[..4].copy_from_slice(&signal.to_le_bytes());
        info[8..12].copy_from_slice(&code.to_le_bytes());
        info[24] = value;
        info
    }

    #[test]
    fn only_what_is_new_is_sent_again() {
        let [a, b, c] = [1, 2, 3].map(|value| info(40, -1, value));
        let new = |now: &[RawSiginfo], read: &[RawSiginfo]| unread(now.to_vec(), read).collect::<Vec<_>>();
        assert_eq!(new(&[a, b, a, c, a], &[a, b]), [a, c, a]);
        assert_eq!(new(&[a, b], &[b, a]), Vec::<RawSiginfo>::new());
        let alarm = |code| info(libc::SIGALRM, code, 0);
        // Of setitimer, of timer_create, of kill; and the agent's own.
        let now = [alarm(0x80), alarm(-2), alarm(0), info(libc::SIGSTOP, 0, 0), info(libc::SIGTERM, 0, 0)];
        assert_eq!(new(&now, &[]), [alarm(0), info(libc::SIGTERM, 0, 0)]);
    }
}
