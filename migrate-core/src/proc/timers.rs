//! `/proc/PID/timers`: the POSIX timers of timer_create(2) (proc_pid_timers(5), fs/proc/base.c
//! `show_timer`; needs CONFIG_CHECKPOINT_RESTORE). It does not tell what is left until they expire.

use super::text::{lines, number, signed, split_once};
use super::{Malformed, read_parsed};
use std::io;

/// One POSIX timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosixTimer {
    /// The ID that timer_create(2) returned.
    pub id: i32,
    /// The signal it sends.
    pub signal: i32,
    /// `sigev_value`, as an integer.
    pub value: u64,
    /// How it notifies.
    pub notify: Notify,
    /// The thread notified when `to_thread` (SIGEV_THREAD_ID), else the process.
    pub target: i32,
    /// Whether `target` is a thread.
    pub to_thread: bool,
    /// CLOCK_*, or a negative dynamic clock (clock_getcpuclockid(3)).
    pub clock: i32,
}

/// `sigev_notify` without SIGEV_THREAD_ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// SIGEV_SIGNAL
    Signal,
    /// SIGEV_NONE
    None,
    /// SIGEV_THREAD, which the kernel treats as SIGEV_SIGNAL.
    Thread,
}

/// Parses the text of `/proc/PID/timers`.
///
/// # Errors
/// Which timer's lines are not understood, counted from 1.
pub fn parse_timers(text: &[u8]) -> Result<Vec<PosixTimer>, Malformed> {
    let mut lines = lines(text);
    let mut timers = Vec::new();
    while let Some(id) = lines.next() {
        let rest = [lines.next(), lines.next(), lines.next()];
        let timer =
            parse_timer(id, rest).ok_or_else(|| Malformed::new(format!("timer {} is malformed", timers.len() + 1)))?;
        timers.push(timer);
    }
    Ok(timers)
}

fn parse_timer(id: &[u8], rest: [Option<&[u8]>; 3]) -> Option<PosixTimer> {
    let int = |text| signed(text).and_then(|value| i32::try_from(value).ok());
    let [signal, notify, clock] = rest;
    let (signal, value) = split_once(signal?.strip_prefix(b"signal: ")?, b'/')?;
    let (notify, target) = split_once(notify?.strip_prefix(b"notify: ")?, b'/')?;
    let (target_kind, target) = split_once(target, b'.')?;
    Some(PosixTimer {
        id: int(id.strip_prefix(b"ID: ")?)?,
        signal: int(signal)?,
        value: number(value.strip_prefix(b"0x").unwrap_or(value), 16)?,
        notify: match notify {
            b"signal" => Notify::Signal,
            b"none" => Notify::None,
            b"thread" => Notify::Thread,
            _ => return None,
        },
        target: int(target)?,
        to_thread: match target_kind {
            b"tid" => true,
            b"pid" => false,
            _ => return None,
        },
        clock: int(clock?.strip_prefix(b"ClockID: ")?)?,
    })
}

/// Reads `/proc/PID/timers`.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_timers(pid: i32) -> io::Result<Vec<PosixTimer>> {
    read_parsed(format!("/proc/{pid}/timers"), parse_timers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &[u8] = b"ID: 3\nsignal: 10/0000000000000001\nnotify: signal/pid.7594\nClockID: -6\n\
        ID: 2\nsignal: 34/000000000000dead\nnotify: thread/pid.7594\nClockID: 1\n\
        ID: 1\nsignal: 12/00007fff86e452a8\nnotify: signal/tid.7595\nClockID: 1\n";

    #[test]
    fn every_field() {
        let timers = parse_timers(SAMPLE).unwrap();
        assert_eq!(timers.len(), 3);
        assert_eq!((timers[0].id, timers[0].clock), (3, -6));
        assert_eq!(timers[1].notify, Notify::Thread);
        assert_eq!(
            timers[2],
            PosixTimer {
                id: 1,
                signal: 12,
                value: 0x7fff86e452a8,
                notify: Notify::Signal,
                target: 7595,
                to_thread: true,
                clock: 1,
            }
        );
        assert_eq!(parse_timers(b""), Ok(vec![]));
        let cut = SAMPLE.strip_suffix(b"ClockID: 1\n").unwrap();
        assert_eq!(parse_timers(cut).unwrap_err().to_string(), "timer 3 is malformed");
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_timers(&text);
        }

        #[test]
        fn any_byte_changed(at in 0..SAMPLE.len(), byte: u8) {
            let mut text = SAMPLE.to_vec();
            text[at] = byte;
            let _ = parse_timers(&text);
        }
    }
}
