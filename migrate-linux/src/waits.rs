//! Calls that wait for a time: where they have it from, and how the kernel goes on with one that a stop has interrupted.

use std::time::Duration;

use crate::regs::Registers;
use crate::remote::RemoteAddr;
use crate::thread_probe::ThreadRecord;

const SECOND: i64 = 1_000_000_000;

/// A call that waits for a time, counted from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Its number.
    pub call: u64,
    /// Which argument is the time, 0 to 5.
    pub argument: usize,
    /// How it is given.
    pub time: Time,
    /// What happens when a stop interrupts it.
    pub interrupted: Interrupted,
    /// Where the kernel puts what is left (`struct timespec`) when it is interrupted; 0: nowhere.
    pub rest: RemoteAddr,
}

/// How a call is told a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// In a register.
    Milliseconds(i32),
    /// `struct timespec` at this address.
    Timespec(RemoteAddr),
    /// `struct timeval` at this address.
    Timeval(RemoteAddr),
}

/// What happens when a stop interrupts a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// The kernel has noted when it ends, and goes on by that (ERESTART_RESTARTBLOCK).
    Noted,
    /// The kernel writes what is left where the program has put the time, and makes the call again (ERESTARTNOHAND).
    WrittenBack,
    /// EINTR. Made again, it lasts as long as from its beginning.
    Anew,
}

/// The arguments of a call, as the registers have them.
pub fn arguments(regs: &Registers) -> [u64; 6] {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}

impl Wait {
    /// The wait that call number `call` is. None: it is none, or one without an end, or until a point in time.
    pub fn of(call: u64, regs: &Registers) -> Option<Wait> {
        use Interrupted::{Anew, Noted, WrittenBack};
        const ABSOLUTE: u64 = libc::TIMER_ABSTIME as u64;
        let args = arguments(regs);
        let [first, second, ..] = args;
        let milliseconds = |value: u64| Time::Milliseconds(value as i32);
        type Form = fn(u64) -> Time;
        let (timespec, timeval): (Form, Form) = (Time::Timespec, Time::Timeval);
        let (argument, form, interrupted, rest) = match call as i64 {
            libc::SYS_nanosleep => (0, timespec, Noted, second),
            libc::SYS_clock_nanosleep if second & ABSOLUTE == 0 && counts_time(first) => (2, timespec, Noted, args[3]),
            libc::SYS_poll => (2, milliseconds as Form, Noted, 0),
            libc::SYS_futex if waits_for_a_time(second) => (3, timespec, Noted, 0),
            libc::SYS_select => (4, timeval, WrittenBack, 0),
            libc::SYS_pselect6 => (4, timespec, WrittenBack, 0),
            libc::SYS_ppoll => (2, timespec, WrittenBack, 0),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => (3, milliseconds as Form, Anew, 0),
            libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => (3, timespec, Anew, 0),
            libc::SYS_rt_sigtimedwait => (2, timespec, Anew, 0),
            libc::SYS_io_getevents => (4, timespec, Anew, 0),
            _ => return None,
        };
        let time = form(args[argument]);
        // Nothing is mapped in the first page.
        let ends = !matches!(time, Time::Milliseconds(..0) | Time::Timespec(..4096) | Time::Timeval(..4096));
        ends.then_some(Wait { call, argument, time, interrupted, rest })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self.call as i64 {
            libc::SYS_nanosleep => "nanosleep",
            libc::SYS_clock_nanosleep => "clock_nanosleep",
            libc::SYS_poll => "poll",
            libc::SYS_futex => "futex",
            libc::SYS_select => "select",
            libc::SYS_pselect6 => "pselect6",
            libc::SYS_ppoll => "ppoll",
            libc::SYS_epoll_wait => "epoll_wait",
            libc::SYS_epoll_pwait => "epoll_pwait",
            libc::SYS_epoll_pwait2 => "epoll_pwait2",
            libc::SYS_semtimedop => "semtimedop",
            libc::SYS_rt_sigtimedwait => "rt_sigtimedwait",
            libc::SYS_io_getevents => "io_getevents",
            _ => "a wait",
        }
    }

    /// What the probe tells of how long it still lasts, from when the record was read, nanoseconds; it may be over already. Only of
    /// one that the kernel has noted. None: the note is of another call, or its clock is none that just counts time.
    pub fn left_by(&self, regs: &Registers, record: &ThreadRecord) -> Option<i64> {
        // `struct restart_block`, linux/restart_block.h; the kernel fills it in when the call is interrupted.
        let [a, b, c, d, _] = record.restart;
        let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
        let since = |end: u64, now: u64| Some((end as i64).saturating_sub(now as i64));
        match self.call as i64 {
            // clockid, type, rmtp, expires
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => {
                const NATIVE: u32 = 1;
                if high(a) > NATIVE || (high(a) == NATIVE) != (self.rest != 0) || self.rest != 0 && b != self.rest {
                    return None;
                }
                match low(a) as i32 {
                    libc::CLOCK_MONOTONIC => since(c, record.now),
                    libc::CLOCK_BOOTTIME => since(c, record.boot_now),
                    _ => None,
                }
            }
            // ufds, nfds, has_timeout, tv_sec, tv_nsec
            libc::SYS_poll if a == regs.rdi && low(b) == low(regs.rsi) && high(b) == 1 => {
                since(c.saturating_mul(SECOND as u64).saturating_add(d), record.now)
            }
            // uaddr, val, flags, bitset, time
            libc::SYS_futex if is_of_futex(regs, record) => since(d, record.now),
            _ => None,
        }
    }

    /// Which call it is that the kernel has noted, by a thread's registers, which still have its arguments. None: none of them, or
    /// more than one could be it.
    pub fn noted(regs: &Registers, record: &ThreadRecord) -> Option<u64> {
        const CALLS: [i64; 4] = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_poll, libc::SYS_futex];
        let fits = |call: &u64| match *call as i64 {
            // Also until a point in time.
            libc::SYS_futex => is_of_futex(regs, record),
            _ => Wait::of(*call, regs).is_some_and(|wait| wait.left_by(regs, record).is_some()),
        };
        let mut fitting = CALLS.into_iter().map(|call| call as u64).filter(fits);
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// The same by what the thread was waiting in (/proc/PID/wchan), before it was interrupted again.
    pub fn noted_in(function: &str, regs: &Registers) -> Option<u64> {
        let call = match function {
            f if f.contains("nanosleep") && is_clock(regs.rdi) => libc::SYS_clock_nanosleep,
            f if f.contains("nanosleep") => libc::SYS_nanosleep,
            f if f.contains("poll") => libc::SYS_poll,
            f if f.contains("futex") => libc::SYS_futex,
            _ => return None,
        };
        Some(call as u64)
    }
}

/// Whether the note may be that of the futex wait of these registers.
fn is_of_futex(regs: &Registers, record: &ThreadRecord) -> bool {
    let [address, value, ..] = record.restart;
    address == regs.rdi && value as u32 == regs.rdx as u32
}

/// Which call it is that the kernel has noted, by what its arguments can be and what they point at; `read` reads 16 bytes. None: none of
/// them.
pub fn noted_by_arguments(regs: &Registers, read: impl Fn(RemoteAddr) -> Option<[u8; 16]>) -> Option<u64> {
    let [first, second, third, fourth, ..] = arguments(regs);
    let time = |address: u64| read(address).is_some_and(|bytes| nanoseconds(&bytes, 1).is_some());
    // It waits for as long as the word has this value.
    let word = |address: u64| read(address).map(|[a, b, c, d, ..]| u32::from_le_bytes([a, b, c, d]));
    let operation = second as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let waits = matches!(operation, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) && second < 4096;
    Some(match () {
        () if waits && word(first) == Some(third as u32) && time(fourth) => libc::SYS_futex,
        () if is_clock(first) && second == 0 && time(third) => libc::SYS_clock_nanosleep,
        () if (second == 0 || second >= 4096) && time(first) => libc::SYS_nanosleep,
        () if second < 1 << 20 && (third as i32) > 0 && (second == 0 || read(first).is_some()) => libc::SYS_poll,
        () => return None,
    } as u64)
}

/// A clock that just counts time; not one of CPU time, and none that wakes the machine up, whose notes look otherwise.
fn counts_time(clock: u64) -> bool {
    matches!(clock as i32, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME | libc::CLOCK_TAI)
}

/// Whether this is the number of a clock and no address.
fn is_clock(word: u64) -> bool {
    word < 64 || (word as i32) < 0 && word >> 32 == u64::from(u32::MAX)
}

/// FUTEX_WAIT; the other operations wait until a point in time.
fn waits_for_a_time(operation: u64) -> bool {
    operation as i32 & !libc::FUTEX_PRIVATE_FLAG == libc::FUTEX_WAIT
}

/// Nanoseconds of a `struct timespec` (`unit`: 1) or a `struct timeval` (1000). None: not a time.
pub fn nanoseconds(bytes: &[u8; 16], unit: i64) -> Option<i64> {
    let (seconds, rest) = bytes.split_at(8);
    let word = |half: &[u8]| half.try_into().map(i64::from_le_bytes).ok();
    let (seconds, rest) = (word(seconds)?, word(rest)?);
    let valid = seconds >= 0 && (0..SECOND / unit).contains(&rest);
    valid.then(|| seconds.saturating_mul(SECOND).saturating_add(rest.saturating_mul(unit)))
}

/// The `struct timespec` (`unit`: 1) or `struct timeval` (1000) of so many nanoseconds, rounded up; of less than none, 0.
pub fn to_bytes(nanoseconds: i64, unit: i64) -> [u8; 16] {
    let units = nanoseconds.max(0).saturating_add(unit - 1) / unit;
    let per_second = SECOND / unit;
    let mut bytes = [0; 16];
    let (seconds, rest) = bytes.split_at_mut(8);
    seconds.copy_from_slice(&(units / per_second).to_le_bytes());
    rest.copy_from_slice(&(units % per_second).to_le_bytes());
    bytes
}

/// This process's CLOCK_BOOTTIME, nanoseconds.
pub fn boot_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (time.tv_sec.max(0) as u64).saturating_mul(SECOND as u64).saturating_add(time.tv_nsec.max(0) as u64)
}

/// So many nanoseconds, for messages; of less than none, 0.
pub fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(nanoseconds.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_their_bytes() {
        for ns in [0, 1, 999_999_999, SECOND, 123 * SECOND + 456_000] {
            assert_eq!(nanoseconds(&to_bytes(ns, 1), 1), Some(ns));
        }
        assert_eq!(nanoseconds(&to_bytes(1_000_001, 1000), 1000), Some(1_001_000), "rounded up");
        assert_eq!(to_bytes(-5, 1), [0; 16]);
        let mut wrong = [0; 16];
        wrong[8..].copy_from_slice(&SECOND.to_le_bytes());
        assert_eq!(nanoseconds(&wrong, 1), None);
        assert_eq!(nanoseconds(&[0xff; 16], 1), None);
    }

    #[test]
    fn waits_are_known_by_their_registers() {
        let regs = Registers { rdi: 1, rsi: 0, rdx: 0x1000, r10: 0x2000, ..Registers::default() };
        let wait = Wait::of(libc::SYS_clock_nanosleep as u64, &regs).unwrap();
        assert_eq!((wait.argument, wait.time, wait.rest), (2, Time::Timespec(0x1000), 0x2000));
        let absolute = Registers { rsi: 1, ..regs };
        assert_eq!(Wait::of(libc::SYS_clock_nanosleep as u64, &absolute), None);
        let of_cpu_time = Registers { rdi: libc::CLOCK_THREAD_CPUTIME_ID as u64, ..regs };
        assert_eq!(Wait::of(libc::SYS_clock_nanosleep as u64, &of_cpu_time), None);
        let poll = |time: i64| Registers { rdi: 0x3000, rsi: 2, rdx: time as u32 as u64, ..Registers::default() };
        assert_eq!(Wait::of(libc::SYS_poll as u64, &poll(-1)), None);
        assert_eq!(Wait::of(libc::SYS_poll as u64, &poll(7)).map(|wait| wait.time), Some(Time::Milliseconds(7)));
        for (function, regs, call) in [
            ("hrtimer_nanosleep", regs, libc::SYS_clock_nanosleep),
            ("do_nanosleep", poll(5), libc::SYS_nanosleep),
            ("poll_schedule_timeout.constprop.0", poll(5), libc::SYS_poll),
        ] {
            assert_eq!(Wait::noted_in(function, &regs), Some(call as u64), "{function}");
        }
        assert_eq!(Wait::noted_in("pipe_read", &regs), None);
    }

    #[test]
    fn a_noted_call_is_known_by_its_arguments() {
        let read = |address: u64| match address {
            0x1000 => Some(to_bytes(7 * SECOND + 5, 1)),
            // Descriptor 7, and what it is polled for.
            0x2000 => Some(*b"\x07\0\0\0\x01\0\0\0\xff\xff\xff\xff\x01\0\0\0"),
            _ => None,
        };
        let regs = |rdi, rsi, rdx, r10| Registers { rdi, rsi, rdx, r10, ..Registers::default() };
        for (regs, call) in [
            (regs(0x1000, 0, 9, 9), Some(libc::SYS_nanosleep)),
            (regs(0x1000, 0x1000, 9, 9), Some(libc::SYS_nanosleep)),
            (regs(1, 0, 0x1000, 0), Some(libc::SYS_clock_nanosleep)),
            (regs(0x2000, 2, 500, 9), Some(libc::SYS_poll)),
            (regs(0x2000, 128, 500, 9), Some(libc::SYS_poll)),
            (regs(0, 0, 500, 9), Some(libc::SYS_poll)),
            (regs(0x2000, 128, 7, 0x1000), Some(libc::SYS_futex)),
            (regs(0x2000, 137, 7, 0x1000), Some(libc::SYS_futex)),
            (regs(0x3000, 0x4000, 0, 0), None),
        ] {
            assert_eq!(noted_by_arguments(&regs, read), call.map(|call| call as u64), "{regs:?}");
        }
    }
}
