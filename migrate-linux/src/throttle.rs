//! Slows a process down: its threads stand for a part of each short period, and run for the rest.
//!
//! By ptrace, because the kernel lets tracees run when their tracer ends, whatever it ends of: nothing is left to be undone. (A CPU
//! limit of a cgroup would outlive a killed agent, and moves the process out of its service's group; SIGSTOP is seen by its parent;
//! a lower priority slows nothing down on a host that is not busy.)
//!
//! And so that no system call is ever interrupted: a call that sleeps would have its time-out begin anew each time, and one that
//! has moved a part of its bytes would return early. A thread that PTRACE_SYSCALL lets run stops at each entry into a call and each
//! exit, so it is known whether it is inside one. One that is inside is left alone, and held when it comes out; one that is not is
//! stopped where it is, or, should it just then enter a call, before that begins. Threads that only sleep are never touched.
//!
//! What remains: the first time, a thread is stopped when /proc says that it runs; it may be at work in a call then, which returns
//! with what it has done so far, once, as in a freeze. And a tracer that is killed in the fraction of a millisecond between asking
//! a thread to stop and seeing it enter a call leaves it with a signal pending that is none: epoll_wait and its like may return EINTR.
//!
//! System calls become slower by two stops each while this lasts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::sched::Urgent;
use crate::tracee::{Peeked, SYSCALL_STOP, Seized, Stop, Stopped, peek, reap, request};

/// Standing and running take turns about this often.
const PERIOD: Duration = Duration::from_millis(10);
/// Running for less than this is not worth the way there; the standing grows instead.
const SHORTEST_RUN: Duration = Duration::from_micros(200);
/// However long a run was by accident, a thread stands for no longer than this.
const LONGEST_STAND: Duration = Duration::from_millis(100);
/// Between two looks for stops: at first, and when nothing happens.
const PAUSES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(200));
/// How many threads that have not run yet are looked at in a period.
const LOOKS: usize = 64;
/// The highest percentage.
pub const MOST: u8 = 99;

/// A process that is slowed down until this is dropped.
pub struct Throttle {
    percent: Option<Sender<u8>>,
    worker: Option<JoinHandle<Duration>>,
    /// The worker's thread ID.
    tid: i32,
    /// Closed when every thread of the process stands that would run.
    all_stand: Receiver<()>,
}

impl Throttle {
    /// Has every thread of a process stand `percent` of the time.
    ///
    /// Errors: EPERM when it is traced by another, ESRCH when it is gone.
    pub fn start(pid: i32, percent: u8) -> Result<Throttle> {
        let (sender, receiver) = mpsc::channel();
        let (attached, outcome) = mpsc::channel();
        let (still_works, all_stand) = mpsc::channel();
        let work = move || {
            be_quick();
            let mut threads = Threads { pid, known: BTreeMap::new(), holding: false, next: 0 };
            let begun = threads.attach();
            let failed = begun.is_err();
            let _ = attached.send(begun.map(|()| nix::unistd::gettid().as_raw()));
            let stood = if failed { Duration::ZERO } else { threads.take_turns(percent, &receiver) };
            drop::<Sender<()>>(still_works);
            // The end of this OS thread lets all of them go, without a stop.
            stood
        };
        let worker = std::thread::Builder::new().name("throttle".into()).spawn(work);
        let worker = worker.doing(|| "start a thread".into())?;
        let tid = match outcome.recv() {
            Ok(begun) => begun?,
            Err(_) => return Err(Error::Unsupported("the thread that slows it down has failed".into())),
        };
        Ok(Throttle { percent: Some(sender), worker: Some(worker), tid, all_stand })
    }

    /// From now on `percent` of the time.
    pub fn set(&self, percent: u8) {
        if let Some(sender) = &self.percent {
            // Without anybody to hear it the process is gone.
            let _ = sender.send(percent);
        }
    }

    /// Lets it run as it did before, and returns in that instant. Whoever wants to stop it right then should be [`Urgent`].
    /// Returns for how long it has stood in all.
    pub fn end(mut self) -> Duration {
        self.let_go()
    }

    fn let_go(&mut self) -> Duration {
        self.percent = None;
        let Some(worker) = self.worker.take() else { return Duration::ZERO };
        let _ = self.all_stand.recv();
        // Joining returns a little before the kernel lets the tracees go; when the thread cannot be found any more, it has.
        // SAFETY: signal 0 is none: this only asks whether the thread is there.
        while unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), self.tid, 0) } == 0 {
            // To that thread, should this be the only CPU: who is urgent yields to none that is not.
            std::thread::yield_now();
        }
        worker.join().unwrap_or_default()
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It has not stopped yet since it was attached.
    Unknown,
    /// In the program's own code.
    Program,
    /// In a system call.
    Call,
    /// Stopped by job control.
    GroupStop,
}

/// Traced. Not [`Seized`], which would stop it to let go of it.
#[derive(Clone, Copy, Debug)]
struct Thread {
    place: Place,
    /// It has been asked to stop, and has not yet.
    asked: bool,
    /// It stands, and has to be told to go on.
    stands: bool,
}

impl Thread {
    const NEW: Thread = Thread { place: Place::Unknown, asked: false, stands: false };
}

struct Threads {
    pid: i32,
    known: BTreeMap<i32, Thread>,
    /// Whoever stops is to stand.
    holding: bool,
    /// The first thread that is looked at next.
    next: i32,
}

impl Threads {
    /// Attaches to all that there are. Those that they make later come by themselves (PTRACE_O_TRACECLONE).
    fn attach(&mut self) -> Result<()> {
        loop {
            let before = self.known.len();
            for tid in tids(self.pid).doing(|| format!("list the threads of {}", self.pid))? {
                if self.known.contains_key(&tid) {
                    continue;
                }
                match Seized::seize_with_clones(tid) {
                    Ok(thread) => {
                        self.known.insert(ManuallyDrop::new(thread).tid(), Thread::NEW);
                    }
                    Err(error) if self.wait_for_birth(tid) => return Err(error),
                    // It has ended meanwhile, or came by itself.
                    Err(_) => {}
                }
            }
            if self.known.len() == before {
                return Ok(());
            }
        }
    }

    /// A thread that one of ours has just made is ours already, and will say so. Returns whether it is there and is not.
    fn wait_for_birth(&mut self, tid: i32) -> bool {
        let patience = Instant::now() + PERIOD;
        while state(self.pid, tid).is_some() && !self.known.contains_key(&tid) {
            if Instant::now() > patience {
                return true;
            }
            if !self.look() {
                std::thread::sleep(PAUSES.0);
            }
        }
        false
    }

    /// Until the sender is gone. Returns for how long it stood.
    fn take_turns(&mut self, mut percent: u8, orders: &Receiver<u8>) -> Duration {
        let mut stood = Duration::ZERO;
        while !self.known.is_empty() {
            let share = f64::from(percent.min(MOST)) / 100.0;
            self.holding = false;
            let began = Instant::now();
            self.let_run();
            let mut heard = self.watch(began + PERIOD.mul_f64(1.0 - share).max(SHORTEST_RUN), orders);
            if heard == Heard::Nothing {
                self.holding = true;
                self.stop_those_that_run();
                let until = Instant::now() + began.elapsed().mul_f64(share / (1.0 - share)).min(LONGEST_STAND);
                let began = Instant::now();
                heard = self.watch(until, orders);
                stood += began.elapsed();
            }
            match heard {
                Heard::Nothing => {}
                Heard::Percent(new) => percent = new,
                Heard::End => break,
            }
        }
        // All that run stand for a moment. So nobody is left with an interruption that comes later, and this thread gets its CPU.
        self.holding = true;
        self.stop_those_that_run();
        let patience = Instant::now() + PERIOD;
        while self.known.values().any(|t| t.asked) && Instant::now() < patience {
            if !self.look() {
                std::thread::sleep(PAUSES.0);
            }
        }
        stood
    }

    /// Sees to stops until `end`, or until there is an order.
    fn watch(&mut self, end: Instant, orders: &Receiver<u8>) -> Heard {
        let mut pause = PAUSES.0;
        loop {
            pause = if self.look() { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            let left = end.saturating_duration_since(Instant::now());
            match orders.recv_timeout(pause.min(left)) {
                Ok(percent) => return Heard::Percent(percent),
                Err(RecvTimeoutError::Disconnected) => return Heard::End,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Heard::Nothing,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Sees to what has happened. Returns whether anything has.
    fn look(&mut self) -> bool {
        let mut any = false;
        while let Ok(Some((tid, what))) = peek(libc::P_ALL, 0, libc::WNOHANG) {
            any = true;
            // A request fails on a thread that has been killed; its end is told too.
            let _ = match what {
                Peeked::Stop(Stop::Signal(signal)) if signal != SYSCALL_STOP => self.let_signal_through(tid, signal),
                Peeked::Stop(stop) => self.stopped(tid, Some(stop)),
                Peeked::Event => self.stopped(tid, None),
                Peeked::End => {
                    reap(tid);
                    self.known.remove(&tid);
                    Ok(())
                }
            };
        }
        any
    }

    /// A signal is on its way to the program, on the thread's way out of the kernel. It stays there while this tracer is killed only
    /// as long as the stop has not been waited for, and never when it is held back: so it goes on, and may stop right behind.
    fn let_signal_through(&mut self, tid: i32, signal: i32) -> Result<()> {
        let thread = self.known.entry(tid).or_insert(Thread::NEW);
        thread.place = Place::Program;
        thread.asked = self.holding && interrupt(tid).is_ok();
        let_run(tid, signal)
    }

    /// Another stop than that. None: in clone, when a thread has been born, which is ours too.
    fn stopped(&mut self, tid: i32, stop: Option<Stop>) -> Result<()> {
        reap(tid);
        let thread = self.known.entry(tid).or_insert(Thread { place: Place::Program, ..Thread::NEW });
        let asked = std::mem::take(&mut thread.asked);
        match stop {
            Some(Stop::Event { signal: libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU }) => {
                // It stays stopped, and a SIGCONT is still heard.
                thread.place = Place::GroupStop;
                return request("leave stopped", libc::PTRACE_LISTEN, tid, 0, null_mut()).map(drop);
            }
            Some(Stop::Event { .. }) => {
                if thread.place == Place::Unknown {
                    standing(tid).hide_interruption()?;
                }
                thread.place = Place::Program;
            }
            Some(Stop::Signal(_)) if enters_a_call(tid)? => {
                thread.place = Place::Call;
                if asked {
                    // Having been asked to stop, it would take that for a signal in the call. The call begins again from its
                    // first instruction: this one request makes the kernel skip it and puts the thread before it.
                    let mut thread = standing(tid);
                    let regs = thread.registers()?;
                    thread.set_registers(&regs.rewound())?;
                }
            }
            Some(Stop::Signal(_)) => thread.place = Place::Program,
            None => thread.place = Place::Call,
        }
        if self.holding {
            thread.stands = true;
            return Ok(());
        }
        let_run(tid, 0)
    }

    fn let_run(&mut self) {
        for (tid, thread) in &mut self.known {
            if std::mem::take(&mut thread.stands) {
                // Fails when it has been killed.
                let _ = let_run(*tid, 0);
            }
        }
    }

    /// Asks those to stop that are in the program's code, and those that have never been stopped and run now.
    fn stop_those_that_run(&mut self) {
        let unknown: Vec<i32> =
            self.known.iter().filter(|(_, t)| t.place == Place::Unknown).map(|(tid, _)| *tid).collect();
        let (before, after) = unknown.split_at(unknown.partition_point(|tid| *tid < self.next));
        let looked_at: Vec<i32> = after.iter().chain(before).take(LOOKS).copied().collect();
        self.next = looked_at.last().map_or(0, |last| last + 1);
        let pid = self.pid;
        for (tid, thread) in &mut self.known {
            let runs = match thread.place {
                Place::Program => true,
                Place::Unknown => looked_at.contains(tid) && state(pid, *tid) == Some(b'R'),
                Place::Call | Place::GroupStop => false,
            };
            if runs && !thread.stands && !thread.asked {
                thread.asked = interrupt(*tid).is_ok();
            }
        }
    }
}

/// This OS thread sleeps nearly always, and must be there in time: a process that keeps every CPU busy, as those do that are slowed
/// down, would run for milliseconds more each time.
fn be_quick() {
    // Else a sleep of 20 µs takes 70. Fails never.
    let _ = nix::sys::prctl::set_timerslack(1);
    // Until it ends.
    std::mem::forget(Urgent::begin());
}

/// What came while watching.
#[derive(PartialEq, Eq)]
enum Heard {
    Nothing,
    Percent(u8),
    End,
}

fn interrupt(tid: i32) -> Result<()> {
    request("interrupt", libc::PTRACE_INTERRUPT, tid, 0, null_mut()).map(drop)
}

fn let_run(tid: i32, signal: i32) -> Result<()> {
    request("run", libc::PTRACE_SYSCALL, tid, 0, signal as usize as *mut libc::c_void).map(drop)
}

/// A thread whose stop has been seen. It is not let go of when this is dropped.
fn standing(tid: i32) -> ManuallyDrop<Stopped> {
    ManuallyDrop::new(Seized::adopt(tid).stands())
}

/// Whether a stop at a system call is the one on the way in (PTRACE_GET_SYSCALL_INFO, Linux 5.3).
fn enters_a_call(tid: i32) -> Result<bool> {
    const ENTRY: u8 = 1;
    let mut info = [0u8; 128];
    request("ask about a call", libc::PTRACE_GET_SYSCALL_INFO, tid, info.len(), info.as_mut_ptr().cast())?;
    Ok(info[0] == ENTRY)
}

fn tids(pid: i32) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
}

/// The letter of its state (proc_pid_stat(5)); None: it has ended. The first thread stays as a zombie while others go on.
fn state(pid: i32, tid: i32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|b| *b == b')')?;
    stat.get(name_end + 2).copied().filter(|state| !matches!(state, b'Z' | b'X'))
}
