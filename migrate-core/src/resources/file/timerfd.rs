//! timerfd_create(2): clock, interval, when it expires next, expirations that have not been read, how it was set (absolute, cancelled
//! when the clock is set), flags. The time that the process stands still counts, as it does for a process that is only stopped.
//!
//! An absolute time of CLOCK_REALTIME is that time of the destination's clock; every other one is kept by what is left of it. A timer that
//! expires on the way has so many expirations more to be read. That the clock has been set, and the program has not read ECANCELED
//! yet, is told nowhere; it reads one expiration instead.

use std::os::fd::{AsRawFd, OwnedFd};

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::timerfd::set_ticks;
use nix::time::{ClockId, clock_gettime};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_gettime,
    timerfd_settime,
};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, ready_for, set_flags, time_here};
use crate::error::{Doing, Error, Result};
use crate::proc::fdinfo::{FdInfo, read_fdinfo};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TimerFdImage {
    clock: i32,
    flags: i32,
    /// TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET.
    how: u32,
    /// Nanoseconds; 0: it expires once.
    interval: u64,
    /// Expirations that wait to be read.
    ticks: u64,
    next: Expiry,
}

/// When it expires next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
enum Expiry {
    /// It is not set, or expires no more.
    Never,
    /// So many nanoseconds after `read`, a time of the source's CLOCK_BOOTTIME.
    In { left: u64, read: u64 },
    /// When its own clock shows this, nanoseconds.
    At(u64),
}

/// The kind.
pub enum TimerFd {}

const SECOND: u64 = 1_000_000_000;
const ABSOLUTE: u32 = TimerfdTimerFlags::ABSTIME.bits();
/// A timer that expires while it is read, or while its expirations are being set, would lose one: then that is done again.
const ATTEMPTS: usize = 5;

impl FileKind for TimerFd {
    const NAME: &'static str = "timerfd";
    const MOVES: &'static str =
        "of any clock: interval, when it expires next, expirations not read yet, absolute and cancel-on-set, flags";
    const AHEAD: bool = true;
    type Image = TimerFdImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"timerfd")
    }

    fn preflight(view: &FileView) -> Verdict {
        match Shown::parse(&view.info).and_then(|shown| clock_id(shown.clock)) {
            Some(_) => Verdict::Supported,
            None => Verdict::Unsupported(format!(
                "fd {}: a timerfd that is not understood; have the program close it",
                view.number
            )),
        }
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<TimerFdImage> {
        let number = from.view.number;
        let not_understood = || Error::Invalid(format!("fd {number}: no timer"));
        let mut shown = Shown::parse(&from.view.info).ok_or_else(not_understood)?;
        let mut read = 0;
        for _ in 0..ATTEMPTS {
            // One that has expired waits to be read until it goes on. The kernel counts what it has missed, and sets it going, when asked.
            let times = timerfd_gettime(&from.duplicate).map_err(Into::into);
            let times = times.doing(|| format!("read timer {number}"))?;
            read = time_here();
            if ready_for(&from.duplicate, libc::EPOLLIN as u32)? == 0 {
                // Nor had it expired when it was asked.
                shown = Shown { ticks: 0, left: from_timespec(times.it_value), ..shown };
                if shown.left > 0 || shown.interval == 0 {
                    break;
                }
                // It is not set; or it is about to expire.
                continue;
            }
            // Of the agent's duplicate: the timer is the description's.
            let info = read_fdinfo(std::process::id() as i32, from.duplicate.as_raw_fd());
            let info = info.doing(|| format!("read descriptor {number}"))?;
            shown = Shown::parse(&info).ok_or_else(not_understood)?;
            read = time_here();
            if shown.left > 0 || shown.interval == 0 {
                break;
            }
            // One that is not set has no expirations: it has expired again, so soon after.
            shown.left = shown.interval;
        }
        let Shown { clock, ticks, how, left, interval } = shown;
        let next = match left {
            0 => Expiry::Never,
            _ if how & ABSOLUTE != 0 && is_settable(clock) => Expiry::At(now(clock)?.saturating_add(left)),
            _ => Expiry::In { left, read },
        };
        Ok(TimerFdImage { clock, flags: from.view.status_flags(), how, interval, ticks, next })
    }

    /// One that is due, and whose expiration is not counted yet, looks as if it were not set.
    fn is_in_doubt(image: &TimerFdImage) -> bool {
        image.next == Expiry::Never && image.ticks == 0
    }

    fn is_settled(_image: &TimerFdImage, from: &HeldFile) -> Result<bool> {
        Ok(ready_for(&from.duplicate, libc::EPOLLIN as u32)? == 0)
    }

    fn create(image: &TimerFdImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let clock = clock_id(image.clock).ok_or_else(|| Error::Invalid(format!("a timer of clock {}", image.clock)))?;
        let made = timerfd_create(clock, TimerfdFlags::CLOEXEC).map_err(Into::into);
        let fd = made.doing(|| format!("make a timer of clock {} (CAP_WAKE_ALARM may be missing)", image.clock))?;
        if new.frozen {
            image.set(&fd, new)?;
        }
        Ok(fd)
    }

    /// Before the freeze it is made and not set.
    fn update(old: &TimerFdImage, new: &TimerFdImage, fd: &OwnedFd, files: &NewFiles) -> Result<bool> {
        if old.clock != new.clock {
            return Ok(false);
        }
        if files.frozen {
            new.set(fd, files)?;
        }
        Ok(true)
    }
}

impl TimerFdImage {
    fn set(&self, fd: &OwnedFd, files: &NewFiles) -> Result<()> {
        set_flags(fd, self.flags)?;
        let how = TimerfdTimerFlags::from_bits_truncate(self.how);
        for _ in 0..ATTEMPTS {
            let (ticks, due) = self.due(now(self.clock)?, |read| files.passed_since(read));
            let began = time_here();
            let value = match due {
                None => 0,
                Some(due) if self.how & ABSOLUTE != 0 => now(self.clock)?.saturating_add_signed(due).max(1),
                // 0 would mean not to set it.
                Some(due) => due.max(1).unsigned_abs(),
            };
            let times = Itimerspec { it_interval: to_timespec(self.interval), it_value: to_timespec(value) };
            timerfd_settime(fd, how, &times).map_err(Into::into).doing(|| format!("set a timer ({self:?})"))?;
            if ticks == 0 {
                break;
            }
            set_ticks(fd, ticks).doing(|| "set a timer's expirations (CONFIG_CHECKPOINT_RESTORE)".into())?;
            let took = signed(time_here().saturating_sub(began));
            if due.is_none_or(|due| took < due) {
                break;
            }
        }
        Ok(())
    }

    /// Expirations that wait to be read by now, and nanoseconds until the next one; 0 and less: it is due, and the kernel counts it.
    /// None: there is no next one. `now`: what its clock shows; `passed`: nanoseconds since a time of the source's clock.
    fn due(&self, now: u64, passed: impl Fn(u64) -> u64) -> (u64, Option<i64>) {
        let due = match self.next {
            Expiry::Never => return (self.ticks, None),
            Expiry::In { left, read } => signed(left).saturating_sub(signed(passed(read))),
            Expiry::At(time) => signed(time).saturating_sub(signed(now)),
        };
        if due > 0 || self.interval == 0 {
            return (self.ticks, Some(due));
        }
        let missed = due.unsigned_abs() / self.interval;
        let due = due.saturating_add_unsigned(missed.saturating_mul(self.interval));
        (self.ticks.saturating_add(missed).saturating_add(1), Some(due.saturating_add_unsigned(self.interval)))
    }
}

/// What fdinfo shows (fs/timerfd.c `timerfd_show`).
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    clock: i32,
    ticks: u64,
    how: u32,
    /// Nanoseconds until it expires; 0: it is not set, or has expired and waits to be read.
    left: u64,
    interval: u64,
}

impl Shown {
    fn parse(info: &FdInfo) -> Option<Shown> {
        let text = |key| std::str::from_utf8(info.extra(key)?).ok();
        Some(Shown {
            clock: text("clockid")?.parse().ok()?,
            ticks: text("ticks")?.parse().ok()?,
            how: u32::from_str_radix(text("settime flags")?, 8).ok()?,
            left: nanoseconds(text("it_value")?)?,
            interval: nanoseconds(text("it_interval")?)?,
        })
    }
}

/// `(SECONDS, NANOSECONDS)`
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
    seconds.parse::<u64>().ok()?.checked_mul(SECOND)?.checked_add(rest.parse().ok()?)
}

fn to_timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / SECOND) as i64, tv_nsec: (ns % SECOND) as _ }
}

fn from_timespec(time: Timespec) -> u64 {
    (time.tv_sec.max(0) as u64).saturating_mul(SECOND).saturating_add(time.tv_nsec.max(0) as u64)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

fn clock_id(clock: i32) -> Option<TimerfdClockId> {
    Some(match clock {
        libc::CLOCK_REALTIME => TimerfdClockId::Realtime,
        libc::CLOCK_MONOTONIC => TimerfdClockId::Monotonic,
        libc::CLOCK_BOOTTIME => TimerfdClockId::Boottime,
        libc::CLOCK_REALTIME_ALARM => TimerfdClockId::RealtimeAlarm,
        libc::CLOCK_BOOTTIME_ALARM => TimerfdClockId::BoottimeAlarm,
        _ => return None,
    })
}

/// Whether somebody may set it, so that an absolute time of it is not the same as what is left.
fn is_settable(clock: i32) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_ALARM)
}

/// What a clock shows to this process, nanoseconds. An alarm clock can be read only where a device keeps it (CONFIG_RTC_CLASS).
fn now(clock: i32) -> Result<u64> {
    let clock = match clock {
        libc::CLOCK_REALTIME_ALARM => libc::CLOCK_REALTIME,
        libc::CLOCK_BOOTTIME_ALARM => libc::CLOCK_BOOTTIME,
        other => other,
    };
    let time = clock_gettime(ClockId::from_raw(clock)).map_err(Into::into).doing(|| format!("read clock {clock}"))?;
    Ok((time.tv_sec().max(0) as u64).saturating_mul(SECOND).saturating_add(time.tv_nsec().max(0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::fdinfo::parse_fdinfo;
    use proptest::prelude::*;

    fn timer(next: Expiry, interval: u64, ticks: u64) -> TimerFdImage {
        TimerFdImage { clock: libc::CLOCK_REALTIME, flags: 0, how: 0, interval, ticks, next }
    }

    #[test]
    fn lines_are_understood() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t1\nino:\t2\nclockid: 7\nticks: 3\nsettime flags: 03\nit_value: (1, 5)\nit_interval: (0, 9)\n";
        let expected = Shown { clock: 7, ticks: 3, how: 3, left: SECOND + 5, interval: 9 };
        assert_eq!(Shown::parse(&parse_fdinfo(text.as_bytes()).expect("fdinfo")), Some(expected));
        let cut = text.replace(", 9", "");
        assert_eq!(Shown::parse(&parse_fdinfo(cut.as_bytes()).expect("fdinfo")), None);
    }

    #[test]
    fn what_was_missed_is_counted() {
        let after = |left| Expiry::In { left, read: 1000 };
        let cases = [
            (timer(Expiry::Never, 0, 4), (4, None)),
            (timer(after(150), 0, 0), (0, Some(50))),
            (timer(after(70), 0, 0), (0, Some(-30))),
            (timer(after(150), 10, 2), (2, Some(50))),
            (timer(after(100), 10, 2), (3, Some(10))),
            (timer(after(75), 10, 0), (3, Some(5))),
            (timer(after(70), 10, 0), (4, Some(10))),
            (timer(Expiry::At(5030), 0, 0), (0, Some(30))),
            (timer(Expiry::At(4985), 10, 1), (3, Some(5))),
        ];
        for (timer, expected) in cases {
            assert_eq!(timer.due(5000, |read| 1100 - read), expected, "{timer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_number_of_a_peer_overflows(left: u64, read: u64, interval: u64, ticks: u64, now: u64, passed: u64) {
            timer(Expiry::In { left, read }, interval, ticks).due(now, |_| passed);
            timer(Expiry::At(left), interval, ticks).due(now, |_| passed);
        }

        #[test]
        fn a_later_look_finds_the_same(left in 1..1000u64, interval in 1..50u64, ticks in 0..5u64, early in 0..500u64, late in 0..500u64) {
            let at_once = timer(Expiry::In { left, read: 0 }, interval, ticks).due(0, |_| early + late);
            let (ticks, due) = timer(Expiry::In { left, read: 0 }, interval, ticks).due(0, |_| early);
            let left = due.expect("periodic").unsigned_abs();
            prop_assert_eq!(timer(Expiry::In { left, read: 0 }, interval, ticks).due(0, |_| late), at_once);
        }
    }
}
