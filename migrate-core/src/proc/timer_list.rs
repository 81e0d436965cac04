//! `/proc/timer_list`: the high-resolution timers of all CPUs (kernel/time/timer_list.c). Nothing else tells a timer that is due, and that
//! its CPU has not come to yet, from one that is not set. To list n timers of a CPU takes the kernel time in proportion to n².

use std::io;
use std::time::{Duration, Instant};

use migrate_linux::due_timers;

use super::text::{lines, number, words};
use super::{Malformed, read_parsed};

/// How long a thread may wait to be let on a CPU.
const PATIENCE: Duration = Duration::from_millis(20);
/// How late a CPU may be with its timers.
const LATE: Duration = Duration::from_millis(100);

/// Waits until the kernel has come to every timer that is due now: by having been on each CPU, and where that is not possible by the list.
///
/// # Errors
/// The list cannot be read or understood, or a CPU has been late for longer than 100 ms.
pub fn await_due() -> io::Result<()> {
    match due_timers::await_all(PATIENCE) {
        Ok(()) => Ok(()),
        Err(why) => {
            tracing::debug!("wait on each CPU for its timers: {why}; /proc/timer_list tells");
            await_listed()
        }
    }
}

fn await_listed() -> io::Result<()> {
    let began = Instant::now();
    while read_parsed("/proc/timer_list".into(), is_any_due)? {
        if began.elapsed() > LATE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a CPU is late with its timers"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Whether there is a timer that should have expired when the list was begun. In the queue of each clock they stand by when they expire: where
/// one that is due is left out, for those before it have been taken out meanwhile, these were due, too, and told.
fn is_any_due(text: &[u8]) -> Result<bool, Malformed> {
    let (mut now, mut offset) = (None, None);
    for line in lines(text) {
        let parts: Vec<&[u8]> = words(line).take(5).collect();
        match *parts.as_slice() {
            [b"now", b"at", time, ..] => now = number(time, 10),
            [b"clock", ..] => offset = None,
            // Of one behind CLOCK_MONOTONIC it is what that would be without a sign.
            [b".offset:", time, ..] => offset = number(time, 10),
            [b"#", b"expires", b"at", range, ..] => {
                let latest = range.split(|&byte| byte == b'-').next_back().and_then(|time| number(time, 10));
                let (Some(latest), Some(now), Some(offset)) = (latest, now, offset) else {
                    return Err(Malformed::new("a timer is malformed"));
                };
                if latest.wrapping_sub(offset) as i64 <= now as i64 {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
    if now.is_some() { Ok(false) } else { Err(Malformed::new("it does not tell the time")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "Timer List Version: v0.10\nHRTIMER_MAX_CLOCK_BASES: 8\nnow at 5000 nsecs\n\ncpu: 0\n clock 0:\n  .base:       00000000ca505f01\n  .index:      0\n  .resolution: 1 nsecs\n  .offset:     0 nsecs\nactive timers:\n #0: <00000000b6d0863d>, tick_nohz_handler, S:01\n # expires at 5001-5001 nsecs [in 1 to 1 nsecs]\n #1: <000000003bb686fe>, hrtimer_wakeup, S:01\n # expires at 4900-5100 nsecs [in -100 to 100 nsecs]\n clock 1:\n  .base:       00000000ca505f02\n  .offset:     1000000 nsecs\nactive timers:\n #0: <000000009491a7e0>, timerfd_tmrproc, S:01\n # expires at 1005002-1005002 nsecs [in 1000002 to 1000002 nsecs]\n";

    #[test]
    fn what_is_due_is_seen() {
        let is_due = |text: &str| is_any_due(text.as_bytes());
        assert!(!is_due(LIST).unwrap());
        assert!(is_due(&LIST.replace("4900-5100", "4900-5000")).unwrap());
        assert!(is_due(&LIST.replace("1005002-1005002", "1004999-1004999")).unwrap());
        // CLOCK_TAI or CLOCK_REALTIME of a host whose clock stands before it was started.
        let behind = LIST.replace("1000000 nsecs", "18446744073709551615 nsecs");
        assert!(is_due(&behind.replace("1005002-1005002", "4999-4999")).unwrap());
        assert!(!is_due(&behind).unwrap());
        assert!(is_due("").is_err() && is_due(&LIST.replace(".offset", ".other")).is_err());
    }

    #[test]
    fn this_host_is_not_late_for_long() {
        await_due().unwrap();
        await_listed().unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, at in 0..LIST.len(), byte: u8) {
            let _ = is_any_due(&bytes);
            let mut text = LIST.as_bytes().to_vec();
            text[at] = byte;
            let _ = is_any_due(&text);
        }
    }
}
