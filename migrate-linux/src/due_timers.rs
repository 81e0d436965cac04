//! Timers that are due, and that their CPU has not come to yet: a virtual CPU may be late by milliseconds. Such a timer looks like one
//! that is not set.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use crate::sched::{Urgent, online_cpus, set_affinity};

/// Waits until every CPU of this host has come to the timers that are due on it now: a thread sleeps on each for a nanosecond, and a
/// CPU takes all timers that have expired, of every clock, before it lets a thread run that one of them has woken (kernel/time/hrtimer.c,
/// hrtimer_interrupt). That takes some tens of microseconds a CPU, however many timers there are.
///
/// # Errors
/// `TimedOut`: a CPU has not let the thread run in time. Another: the thread may not run on each CPU (cpuset(7)). Nothing is known then.
pub fn await_all(limit: Duration) -> io::Result<()> {
    let cpus = online_cpus()?;
    let (done, finished) = sync_channel(1);
    // On its own: on a CPU that real-time threads keep busy it may have to wait for long.
    thread::Builder::new().name("due-timers".into()).spawn(move || drop(done.try_send(sleep_on_each(&cpus))))?;
    match finished.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread has ended")),
    }
}

fn sleep_on_each(cpus: &[u8]) -> io::Result<()> {
    let _urgent = Urgent::begin();
    for cpu in (0..cpus.len() * 8).filter(|cpu| cpus[cpu / 8] & 1 << (cpu % 8) != 0) {
        let mut only = vec![0; cpus.len()];
        only[cpu / 8] |= 1 << (cpu % 8);
        set_affinity(0, &only)?;
        while let Err(why) =
            clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &TimeSpec::new(0, 1))
        {
            if why != Errno::EINTR {
                return Err(why.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_due_has_expired() {
        const PATIENCE: Duration = Duration::from_secs(30);
        for clock in [ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_REALTIME, ClockId::CLOCK_BOOTTIME].repeat(30) {
            let timer = TimerFd::new(clock, TimerFlags::TFD_CLOEXEC).unwrap();
            let soon = Expiration::OneShot(TimeSpec::from_duration(Duration::from_micros(20)));
            timer.set(soon, TimerSetTimeFlags::empty()).unwrap();
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(30) {}
            match await_all(PATIENCE) {
                Ok(()) => {}
                Err(why) if why.raw_os_error() == Some(libc::EINVAL) => {
                    return println!("SKIPPED what_was_due_has_expired: this may not run on every CPU");
                }
                Err(why) => panic!("{why}"),
            }
            let mut polled = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::ZERO), Ok(1), "{clock:?}");
        }
    }
}
