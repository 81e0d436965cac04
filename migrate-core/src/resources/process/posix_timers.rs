//! The timers of timer_create(2): ID, clock, how they notify and whom (SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID, which is also what
//! a C library makes of SIGEV_THREAD), sigev_value, interval, and when they expire next. The time that the process stands still
//! counts, as it does for a process that is only stopped.
//!
//! A timer that has expired, and whose signal waits, is made to expire again over there: then the kernel itself counts what it
//! misses until the signal is taken, and the signal comes once. Where the kernel module tells when it has expired first, that is the
//! time that it is set to, and nothing of what it has missed is lost; and where that sets it, timer_getoverrun(2) says what it said last.
//! What is lost:
//!
//! - without the module, how often a timer has expired while its signal waited, and what timer_getoverrun(2) said last; both begin at 0;
//! - of a timer of CLOCK_REALTIME, whether a change of the clock is to move it (TIMER_ABSTIME): it expires after the time that was left.
//!
//! A signal that waits of a timer that has been set anew or deleted since is not told from one that is still wanted
//! (timer_settime(2) leaves open whether it comes), nor are two timers that send the same signal kept in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use migrate_linux::kernel_module::KernelModule;
use migrate_linux::kernel_module::uapi::{TIMER_IS_SET, TIMER_NOT_READ, Timer};
use migrate_linux::libc;
use migrate_linux::posix_timers::{PR_TIMER_CREATE_RESTORE_IDS, ids_can_be_chosen};
use migrate_linux::remote::{Batch, RemoteBuffer, Results};

use crate::error::{Error, Result};
use crate::proc::process::Process;
use crate::proc::timers::{Notify, PosixTimer};
use crate::resources::thread::timer_that_sent;
use crate::resources::{FrozenThread, Row};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TimerImage {
    id: i32,
    clock: i32,
    /// `sigev_notify`.
    notify: i32,
    signal: i32,
    value: u64,
    /// With SIGEV_THREAD_ID, in its PID namespace.
    thread: i32,
    /// Nanoseconds; 0: it expires once.
    interval: u64,
    /// Nanoseconds until it expires; 0: it is not set.
    left: u64,
    /// It has expired, and its signal waits.
    expired: bool,
    /// Expiries since that one, without it and what is left. None: not known.
    missed: Option<u64>,
    /// What timer_getoverrun says.
    missed_last: u64,
}

/// All of a process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct PosixTimers {
    timers: Vec<TimerImage>,
    /// How long ago they were asked when this was sent, nanoseconds.
    age: u64,
}

/// What each said at a point in time.
#[derive(Debug)]
pub struct Told {
    /// Of each, by its ID.
    times: HashMap<i32, Time>,
    /// When they had not been asked yet, and when all had been.
    asked: (Instant, Instant),
}

/// Of one timer.
#[derive(Debug, Clone, Copy)]
enum Time {
    /// By itself: nanoseconds, interval and what is left; what timer_getoverrun says.
    Asked(u64, u64, u64),
    /// By the kernel module.
    Told(Timer),
}

/// What of them moves.
pub const ROW: Row = (
    "POSIX timers",
    "of any clock: ID, what and whom they notify, interval, when they expire next; one that has expired notifies once; how often one was missed, with the kernel module on both hosts",
);

/// With kernels that cannot be told the ID of a timer (before Linux 6.16, without the kernel module), all lower ones are made and deleted
/// first: half a microsecond each.
const HIGHEST_COUNTED_ID: i32 = 50_000;
/// So many are made and deleted sooner than the module is asked.
const FEW: i32 = 8;
/// `struct itimerspec`, `struct sigevent`.
const TIMES: usize = 32;
const EVENT: usize = 64;
const SECOND: u64 = 1_000_000_000;
/// Low bits of a dynamic clock's ID (linux/posix-timers_types.h): the clock of one thread, that of an open device.
const PER_THREAD: i32 = 4;
const DEVICE: i32 = 3;

/// The process, or (true) the thread, whose CPU time a clock measures; 0: the one that made the timer.
fn measured(clock: i32) -> Option<(i32, bool)> {
    (clock < 0 && clock & DEVICE != DEVICE).then_some((!(clock >> 3), clock & PER_THREAD != 0))
}

/// Reasons why they cannot move. `pid`, `tids`: the process and its threads in its own PID namespace.
pub fn obstacles(timers: &[PosixTimer], pid: i32, tids: &[i32]) -> Vec<String> {
    let mut reasons = Vec::new();
    for timer in timers {
        let id = timer.id;
        let why = match (timer.clock, measured(timer.clock)) {
            (_, Some((0, true))) if tids.len() > 1 => {
                "measures the CPU time of one thread (CLOCK_THREAD_CPUTIME_ID); the kernel does not tell of which"
                    .into()
            }
            (_, Some((thread, true))) if thread != 0 && !tids.contains(&thread) => {
                format!("measures the CPU time of thread {thread}, which has ended")
            }
            (_, Some((other, false))) if other != 0 && other != pid => {
                format!("measures the CPU time of process {other}, which stays")
            }
            (_, Some(_)) => continue,
            (clock, None) if clock >= 0 => continue,
            (clock, None) => format!("is of clock {clock:#x}, which belongs to a device"),
        };
        reasons.push(format!("timer {id} (timer_create) {why}; it cannot move: have the program delete it"));
    }
    reasons
}

/// Whether timers can be made on this host whatever their IDs are.
pub fn any_id_can_be_made() -> bool {
    ids_can_be_chosen() || KernelModule::open().is_ok_and(|module| module.sets_next_timer())
}

/// The reason why they cannot move to a host where not any ID can be made.
pub fn too_high(timers: &[PosixTimer]) -> Option<String> {
    let highest = timers.iter().map(|t| t.id).max().filter(|id| *id > HIGHEST_COUNTED_ID)?;
    Some(format!(
        "timer {highest} (timer_create): the destination can only make timers with IDs in order, and so many would take too long; \
         Linux 6.16 can make any, as can the kernel module (docs/kmod.md)"
    ))
}

/// Asks all of them, from inside the process, of which `known` does not tell.
pub fn ask(timers: &[PosixTimer], known: &[Timer], mut run: impl FnMut(&Batch) -> Result<Results>) -> Result<Told> {
    let before = Instant::now();
    let known = known.iter().filter(|timer| timer.state & TIMER_NOT_READ == 0);
    let mut times: HashMap<i32, Time> = known.map(|timer| (timer.id, Time::Told(*timer))).collect();
    let mut rest = timers.iter().map(|timer| timer.id).filter(|id| !times.contains_key(id)).collect::<VecDeque<_>>();
    while !rest.is_empty() {
        let mut batch = Batch::new();
        let mut asked = Vec::new();
        while batch.has_room_for(2, TIMES + 16)
            && let Some(id) = rest.pop_front()
        {
            let place = batch.buffer(TIMES);
            batch.must(libc::SYS_timer_gettime, [id.into(), place.into()]);
            asked.push((id, place, batch.call(libc::SYS_timer_getoverrun, [id.into()])));
        }
        let results = run(&batch)?;
        for (id, place, missed) in asked {
            let ns = |at| {
                let (s, ns) = (results.word(place, at), results.word(place, at + 8));
                s.saturating_mul(SECOND).saturating_add(ns)
            };
            times.insert(id, Time::Asked(ns(0), ns(16), results.value(missed).unwrap_or(0)));
        }
    }
    Ok(Told { times, asked: (before, Instant::now()) })
}

/// Of a timer of which the kernel module tells: what is left of it, as timer_gettime(2) would say, and what it has missed. That moves a
/// timer on whose signal waits, or that is `silent`.
fn as_asked(timer: &Timer, silent: bool, waits: bool) -> (u64, Option<u64>) {
    let (left, interval) = (timer.left, signed(timer.interval));
    if timer.state & TIMER_IS_SET == 0 {
        return (0, None);
    }
    let behind = match left {
        1.. => 0,
        _ if interval == 0 => return (u64::from(!silent), None),
        _ if waits || silent => left.unsigned_abs() / timer.interval + 1,
        _ => return (1, None),
    };
    let left = left.saturating_add(signed(behind.saturating_mul(timer.interval)));
    (left.unsigned_abs(), u64::try_from(timer.missed.saturating_add(signed(behind))).ok())
}

impl Told {
    /// They have been asked by then.
    pub fn since(&self) -> Instant {
        self.asked.1
    }

    /// What travels. Reads which signals wait, so that a timer that has expired since it was asked is found too.
    pub fn image(self, timers: &[PosixTimer], threads: &[FrozenThread], process: Process) -> Result<PosixTimers> {
        if timers.is_empty() {
            return Ok(PosixTimers::default());
        }
        let by_tid: HashMap<i32, &FrozenThread> = threads.iter().map(|t| (t.stopped.tid(), t)).collect();
        let targets: HashSet<i32> = timers.iter().filter(|t| t.to_thread).map(|t| t.target).collect();
        let mut waiting = HashSet::new();
        let first = threads.first().map(|t| (t, true));
        // Its first thread can be named also when it has ended.
        let ended = threads.first().filter(|_| process.first_has_ended()).map(|t| (process.pid, t.pid));
        for (thread, shared) in first.into_iter().chain(targets.iter().filter_map(|t| Some((*by_tid.get(t)?, false)))) {
            waiting.extend(thread.stopped.pending_signals(shared)?.iter().filter_map(timer_that_sent));
        }
        // At most; at least as long lies between the answer and the look at the signals.
        let since = nanoseconds(self.asked.0.elapsed());
        let mut images = Vec::with_capacity(timers.len());
        for timer in timers {
            let PosixTimer { id, signal, value, clock, .. } = *timer;
            let mut notify = match timer.notify {
                Notify::Signal => libc::SIGEV_SIGNAL,
                Notify::None => libc::SIGEV_NONE,
                Notify::Thread => libc::SIGEV_THREAD,
            };
            let target = by_tid.get(&timer.target).map(|t| t.tid);
            let target = target.or_else(|| ended.filter(|(seen, _)| *seen == timer.target).map(|(_, inside)| inside));
            let target = target.filter(|_| timer.to_thread);
            match target {
                Some(_) => notify |= libc::SIGEV_THREAD_ID,
                // The thread has ended: the timer runs, and nobody is told.
                None if timer.to_thread => notify = libc::SIGEV_NONE,
                None => {}
            }
            let waits = waiting.contains(&id);
            let (interval, left, missed, missed_last) = match self.times.get(&id) {
                Some(Time::Asked(interval, left, last)) => (*interval, *left, None, *last),
                Some(Time::Told(told)) => {
                    let (left, missed) = as_asked(told, timer.notify == Notify::None, waits);
                    (told.interval, left, missed, u64::try_from(told.missed_last).unwrap_or(0))
                }
                None => return Err(Error::Invalid(format!("timer {id} was not asked"))),
            };
            // What is left of one that expires once says whether its signal is of an earlier time, when it was set anew.
            let expired = waits && (interval > 0 || left <= since);
            let thread = target.unwrap_or(0);
            let image =
                TimerImage { id, clock, notify, signal, value, thread, interval, left, expired, missed, missed_last };
            images.push(image);
        }
        // As they are made.
        images.sort_by_key(|t| t.id);
        Ok(PosixTimers { timers: images, age: 0 })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl TimerImage {
    /// Nanoseconds from now until it expires, when so many have passed since it was asked; 0 and less: it has. None: it is not set.
    fn due(&self, passed: u64) -> Option<i64> {
        // CPU time has not passed.
        let passed = if measured(self.clock).is_some() { 0 } else { signed(passed) };
        let due = signed(self.left).saturating_sub(passed);
        let interval = signed(self.interval);
        // The last of its expiries that lies behind.
        let last = if due > 0 && interval > 0 { due.rem_euclid(interval) - interval } else { due };
        match (self.expired, interval, self.missed) {
            (true, 0, _) => Some(0),
            // The one whose signal waits; of one that has been set anew since, that is told wrongly, and lies ahead.
            (true, _, Some(missed)) => {
                let behind = interval.saturating_mul(signed(missed.saturating_add(1)));
                Some(due.saturating_sub(behind).min(last))
            }
            (true, _, None) => Some(last),
            (false, ..) => (self.left > 0).then_some(due),
        }
    }

    fn event(&self) -> [u8; EVENT] {
        let mut bytes = [0; EVENT];
        bytes[..8].copy_from_slice(&self.value.to_le_bytes());
        for (at, word) in [(8, self.signal), (12, self.notify), (16, self.thread)] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `now`: what its clock shows, if it is to expire at once.
    fn add_set(&self, due: i64, now: Option<u64>, batch: &mut Batch) {
        // 0 would mean not to set it.
        let (flags, value) = match now {
            Some(now) => (libc::TIMER_ABSTIME, signed(now).saturating_add(due).max(1)),
            None => (0, due.max(1)),
        };
        let mut bytes = Vec::with_capacity(TIMES);
        for ns in [self.interval, value.unsigned_abs()] {
            bytes.extend((ns / SECOND).to_le_bytes().into_iter().chain((ns % SECOND).to_le_bytes()));
        }
        let times = batch.bytes(&bytes);
        batch.must(libc::SYS_timer_settime, [self.id.into(), flags.into(), times.into(), 0.into()]);
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

impl PosixTimers {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Has them know how long ago they were asked, shortly before they are sent.
    pub fn sent_after(&mut self, age: Duration) {
        self.age = nanoseconds(age);
    }

    /// Makes them, and sets them, in a process that has all its threads and its handlers, and got its image so long ago.
    ///
    /// The signals of those that are overdue wait when this is done. Returns what is lost.
    pub fn restore(&self, got: Duration, process: &mut impl TimerOwner) -> Result<Vec<String>> {
        let passed = self.age.saturating_add(nanoseconds(got));
        let overdue = |timer: &&TimerImage| timer.due(passed).is_some_and(|due| due <= 0);
        let clocks: HashSet<i32> = self.timers.iter().filter(overdue).map(|t| t.clock).collect();
        let mut batch = Batch::new();
        let chosen = batch.call(libc::SYS_prctl, choose_ids(true));
        let mut places: HashMap<i32, RemoteBuffer> = HashMap::new();
        for clock in clocks {
            let place = batch.buffer(16);
            batch.must(libc::SYS_clock_gettime, [clock.into(), place.into()]);
            places.insert(clock, place);
        }
        let results = process.run(&batch)?;
        let chosen = results.value(chosen).is_ok();
        let now = |clock: i32| {
            let place = *places.get(&clock)?;
            Some(results.word(place, 0).saturating_mul(SECOND).saturating_add(results.word(place, 8)))
        };
        let mut making = Making { batch: Batch::new(), made: Vec::new(), process };
        let mut next = 0;
        for timer in &self.timers {
            if !chosen {
                making.count_up(&mut next, timer.id)?;
            }
            making.make(timer)?;
            if let Some(due) = timer.due(passed) {
                timer.add_set(due, now(timer.clock).filter(|_| due <= 0), &mut making.batch);
            }
        }
        if chosen {
            making.batch.must(libc::SYS_prctl, choose_ids(false));
        }
        making.flush()?;
        let mut losses = Vec::new();
        for TimerImage { id, missed_last, .. } in self.timers.iter().filter(|timer| timer.missed_last > 0) {
            if !process.set_missed(*id, signed(*missed_last))? {
                losses.push(format!(
                    "timer {id}: timer_getoverrun says 0 over there until it expires again, and said {missed_last} here"
                ));
            }
        }
        Ok(losses)
    }
}

fn choose_ids(on: bool) -> [migrate_linux::remote::Arg; 5] {
    [PR_TIMER_CREATE_RESTORE_IDS.into(), i32::from(on).into(), 0.into(), 0.into(), 0.into()]
}

/// The new process, as timers are made in it.
pub trait TimerOwner {
    /// Runs a batch in it.
    fn run(&mut self, batch: &Batch) -> Result<Results>;
    /// Has the next timer get this ID. Ok(false): that cannot be done here.
    fn set_next_id(&mut self, id: i32) -> Result<bool>;
    /// Has timer_getoverrun say this of one. Ok(false): likewise.
    fn set_missed(&mut self, id: i32, missed: i64) -> Result<bool>;
}

/// Timers being made, in as few batches as it takes.
struct Making<'a, P> {
    batch: Batch,
    /// The IDs wanted, and where those that they got are.
    made: Vec<(i32, RemoteBuffer)>,
    process: &'a mut P,
}

impl<P: TimerOwner> Making<'_, P> {
    fn make_room(&mut self) -> Result<()> {
        // For two timers: making them, and setting them or deleting one of them.
        if self.batch.has_room_for(4, 2 * (EVENT + TIMES + 3 * 16)) { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        let results = self.process.run(&std::mem::take(&mut self.batch))?;
        match self.made.drain(..).find(|(wanted, place)| results.word(*place, 0) as i32 != *wanted) {
            None => Ok(()),
            Some((wanted, place)) => {
                let got = results.word(place, 0) as i32;
                Err(Error::Invalid(format!("timer {wanted} was to be made, and is {got}")))
            }
        }
    }

    fn make(&mut self, timer: &TimerImage) -> Result<()> {
        self.make_room()?;
        let event = self.batch.bytes(&timer.event());
        // What it must be made with, where IDs can be chosen, and what it has been made with.
        let id = self.batch.bytes(&u64::from(timer.id as u32).to_le_bytes());
        self.batch.must(libc::SYS_timer_create, [timer.clock.into(), event.into(), id.into()]);
        self.made.push((timer.id, id));
        Ok(())
    }

    /// Skips the IDs before this one, or uses them up. They are given in order, from 0.
    fn count_up(&mut self, next: &mut i32, id: i32) -> Result<()> {
        if id.saturating_sub(*next) > FEW {
            self.flush()?;
            if self.process.set_next_id(id)? {
                *next = id;
            }
        }
        if *next != id && !(*next..=HIGHEST_COUNTED_ID).contains(&id) {
            return Err(Error::Refused(vec![format!("timer {id} cannot be made on this kernel")]));
        }
        while *next < id {
            self.make_room()?;
            let got = self.batch.buffer(8);
            self.batch.must(libc::SYS_timer_create, [libc::CLOCK_MONOTONIC.into(), 0.into(), got.into()]);
            self.batch.must(libc::SYS_timer_delete, [(*next).into()]);
            *next += 1;
        }
        *next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn timer(interval: u64, left: u64, expired: bool) -> TimerImage {
        let clock = libc::CLOCK_MONOTONIC;
        let (missed, missed_last) = (None, 0);
        TimerImage {
            id: 0,
            clock,
            notify: 0,
            signal: 34,
            value: 0,
            thread: 0,
            interval,
            left,
            expired,
            missed,
            missed_last,
        }
    }

    #[test]
    fn when_it_expires_next() {
        let cases = [
            (timer(0, 0, false), None),
            (timer(70, 0, false), None),
            (timer(0, 500, false), Some(400)),
            (timer(0, 30, false), Some(-70)),
            (timer(70, 500, false), Some(400)),
            (timer(70, 30, false), Some(-70)),
            (timer(0, 0, true), Some(0)),
            // It is due in 20, and was 50 ago.
            (timer(70, 120, true), Some(-50)),
            (timer(70, 100, true), Some(0)),
            (timer(70, 60, true), Some(-40)),
            (timer(0, u64::MAX, false), Some(i64::MAX - 100)),
        ];
        for (timer, due) in cases {
            assert_eq!(timer.due(100), due, "{timer:?}");
        }
        let missed = |missed, timer| TimerImage { missed: Some(missed), ..timer };
        // It is due in 20, and was first three intervals before the last time.
        assert_eq!(missed(3, timer(70, 120, true)).due(100), Some(-50 - 3 * 70));
        assert_eq!(missed(0, timer(70, 120, true)).due(100), Some(-50));
        assert_eq!(missed(0, timer(70, 60, true)).due(100), Some(-40 - 70));
        assert_eq!(missed(u64::MAX, timer(70, 60, true)).due(100), Some(i64::MIN));
        let on_the_cpu = TimerImage { clock: -6, ..timer(0, 500, false) };
        assert_eq!(on_the_cpu.due(100), Some(500));
    }

    #[test]
    fn the_module_tells_what_asking_would() {
        let told =
            |interval, left, missed| Timer { id: 0, state: TIMER_IS_SET, interval, left, missed, missed_last: 0 };
        let cases = [
            // Running; its signal waits; it never notifies. The last two are moved on, and count.
            (told(0, 30, -1), [(30, None); 3]),
            (told(0, -30, -1), [(1, None), (1, None), (0, None)]),
            (told(70, 30, -1), [(30, None); 3]),
            (told(70, 30, 4), [(30, Some(4)); 3]),
            (told(70, -30, -1), [(1, None), (40, Some(0)), (40, Some(0))]),
            (told(70, -150, 2), [(1, None), (60, Some(5)), (60, Some(5))]),
            (told(70, 0, -1), [(1, None), (70, Some(0)), (70, Some(0))]),
            (Timer { state: 0, ..told(0, 30, -1) }, [(0, None); 3]),
        ];
        for (timer, expected) in cases {
            let shown =
                [(false, false), (false, true), (true, false)].map(|(silent, waits)| as_asked(&timer, silent, waits));
            assert_eq!(shown, expected, "{timer:?}");
        }
        // Whatever it says, it is read.
        as_asked(&told(1, i64::MIN, i64::MAX), false, true);
    }

    #[test]
    fn whose_time_a_clock_measures() {
        assert_eq!(measured(-6), Some((0, false)));
        assert_eq!(measured(-2), Some((0, true)));
        assert_eq!(measured((!4711 << 3) | 6), Some((4711, true)));
        assert_eq!(measured((!4711 << 3) | 2), Some((4711, false)));
        assert_eq!(measured((!9 << 3) | DEVICE), None);
        assert_eq!(measured(libc::CLOCK_TAI), None);
    }

    #[test]
    fn what_cannot_move_is_named() {
        let timer = |clock| PosixTimer {
            id: 3,
            signal: 34,
            value: 0,
            notify: Notify::Signal,
            target: 10,
            to_thread: false,
            clock,
        };
        for clock in [libc::CLOCK_REALTIME, -6, -2, (!10 << 3) | 2, (!10 << 3) | 6] {
            assert_eq!(obstacles(&[timer(clock)], 10, &[10]), Vec::<String>::new(), "{clock}");
        }
        let cases = [
            (-2, "one thread"),
            ((!11 << 3) | 2, "process 11"),
            ((!12 << 3) | 6, "has ended"),
            ((!9 << 3) | DEVICE, "device"),
        ];
        for (clock, word) in cases {
            let reasons = obstacles(&[timer(clock)], 10, &[10, 11]);
            assert!(reasons.len() == 1 && reasons[0].contains(word), "{reasons:?}");
        }
    }
}
