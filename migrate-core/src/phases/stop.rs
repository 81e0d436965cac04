//! Stopping a process with all its threads.
//!
//! They are seized while it runs, so that the freeze begins with one request a thread. What else the kernel knows of them, a probe reads
//! at once. Without it, they are read as text, which takes longer than all else: these files are opened ahead, which halves that, and
//! with many threads a second OS thread helps to read them.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use migrate_linux::error::Error as LinuxError;
use migrate_linux::kernel_module::uapi::Timer;
use migrate_linux::kernel_state::KernelStateSource;
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::{Seized, Stop, Stopped};
use nix::errno::Errno;

use super::subject::innermost;
use crate::error::{Doing, Error, Result};
use crate::proc::is_gone;
use crate::proc::listing::read_tids;
use crate::proc::process::Process;
use crate::proc::stat::read_task_stat;
use crate::proc::status::{Status, read_status, read_status_from, read_task_status};
use crate::resources::process::cpu_time::{self, CpuTimes};
use crate::resources::{FrozenThread, Shown};

/// Below this many threads, a second OS thread would cost more than it saves.
const MANY: usize = 16;
/// How many threads are interrupted before the first of them is waited for: they stop while others are interrupted.
const AHEAD: usize = 32;

/// A process whose threads are traced, and run. Dropped, it is as it was.
#[must_use]
pub struct SeizedProcess {
    process: Process,
    seized: BTreeSet<i32>,
    running: Vec<Seized>,
    /// A thread of it was stopped by job control.
    saw_group_stop: Cell<bool>,
    /// Where no thread may be when it stands.
    avoided: Vec<Range<u64>>,
    /// What CPU time it has used is to be read when it stands.
    timed: bool,
    source: Source,
}

/// Where what the kernel knows of the threads comes from.
enum Source {
    AtOnce(KernelStateSource),
    Text(Statuses),
}

/// What was read from: many files, or what watches waits.
pub struct Leftover {
    source: Source,
}

impl Leftover {
    /// What the kernel knows of its POSIX timers, as far as that is told without asking the process.
    pub fn timers(&self) -> Result<Vec<Timer>> {
        match &self.source {
            Source::AtOnce(source) => Ok(source.read_timers()?),
            Source::Text(_) => Ok(Vec::new()),
        }
    }
}

/// A process of which every thread stands.
pub struct Standstill {
    /// The one by which it is reached comes first, if it has not ended.
    pub threads: Vec<FrozenThread>,
    /// Its `/proc/PID/status` of that thread, read when they stood.
    pub status: Status,
    /// It is stopped by job control.
    pub stopped: bool,
    /// The CPU time that it has used, if that was asked for and is told.
    pub cpu_times: Option<CpuTimes>,
    /// For being dropped once the process runs again: closing it takes time.
    pub leftover: Leftover,
}

impl SeizedProcess {
    /// Seizes the threads that there are. More may come: [`SeizedProcess::stop`] sees to them.
    pub fn seize(process: Process, told_by: Option<KernelStateSource>) -> Result<SeizedProcess> {
        let source = told_by.map_or_else(|| Source::Text(Statuses::new(process.pid)), Source::AtOnce);
        let mut process = SeizedProcess {
            process,
            seized: BTreeSet::new(),
            running: Vec::new(),
            saw_group_stop: Cell::new(false),
            avoided: Vec::new(),
            timed: false,
            source,
        };
        process.seize_new()?;
        Ok(process)
    }

    /// No thread may be in the middle of this code when it stands: it runs on until it is out of it.
    pub fn avoiding(mut self, code: Vec<Range<u64>>) -> SeizedProcess {
        self.avoided = code;
        self
    }

    /// Whether the CPU time that it has used is to be told when it stands.
    pub fn timed(mut self, timed: bool) -> SeizedProcess {
        self.timed = timed;
        self
    }

    fn seize_new(&mut self) -> Result<()> {
        let pid = self.process.pid;
        for tid in read_tids(pid).doing(|| format!("list the threads of {pid}"))? {
            if self.seized.contains(&tid) {
                continue;
            }
            match seize(self.process, tid) {
                Ok(thread) => {
                    self.running.push(thread);
                    self.seized.insert(tid);
                    if let Source::Text(statuses) = &mut self.source {
                        statuses.open(tid);
                    }
                }
                // Between the listing and now.
                Err(_) if has_ended(pid, tid) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Stops every thread, and reads what it is.
    ///
    /// Err: all of them run, as if nothing had happened.
    pub fn stop(mut self) -> Result<Standstill> {
        let Process { pid, alive } = self.process;
        let mut threads: Vec<FrozenThread> = Vec::with_capacity(self.running.len());
        let mut records = Vec::new();
        let status = loop {
            let seized = std::mem::take(&mut self.running);
            threads.extend(match &self.source {
                Source::AtOnce(source) => self.stop_told(seized, source, &mut records)?,
                Source::Text(statuses) => self.stop_seized(seized, statuses)?,
            });
            // Whose thread has ended may be another's number by now.
            self.seized = threads.iter().map(|t| t.stopped.tid()).collect();
            // A thread that was not stopped yet may have made new ones. Listing them all is dear, and nearly always there are none.
            let status = match read_status(alive) {
                Err(e) if is_gone(&e) => return Err(Error::Refused(vec![self.process.why_lost()])),
                read => read.doing(|| format!("read process {pid}"))?,
            };
            if status.threads == threads.len() as u64 {
                break status;
            }
            self.seize_new()?;
            if self.running.is_empty() {
                // One that has ended is counted until it is reaped, the first one until the last has ended.
                break status;
            }
        };
        threads.sort_by_key(|t| (t.stopped.tid() != alive, t.tid));
        let Some(first) = threads.first_mut() else {
            return Err(Error::Refused(vec![format!("all threads of {pid} have ended")]));
        };
        // It may have been continued since.
        let stopped = self.saw_group_stop.get() && first.stopped.is_group_stopped()?;
        let cpu_times = match &self.source {
            Source::AtOnce(source) if self.timed => {
                let ended = Some(pid).filter(|_| self.process.first_has_ended());
                cpu_time::capture(&threads, ended, records, || Ok(source.read()?))?
            }
            _ => None,
        };
        Ok(Standstill { threads, status, stopped, cpu_times, leftover: Leftover { source: self.source } })
    }

    /// Stops each, and asks what all are; `records` are these then.
    fn stop_told(
        &self,
        seized: Vec<Seized>,
        source: &KernelStateSource,
        records: &mut Vec<ThreadRecord>,
    ) -> Result<Vec<FrozenThread>> {
        let all = self.wait_for_all(seized, |_| ())?;
        *records = source.read()?;
        let by_tid: HashMap<i32, &ThreadRecord> = records.iter().map(|r| (r.seen_tid, r)).collect();
        let mut threads = Vec::with_capacity(all.len());
        for stopped in all {
            let tid = stopped.tid();
            let record = by_tid.get(&tid).map(|record| **record);
            record.iter().for_each(|record| stopped.is_as(record));
            threads.push(match record.and_then(|r| Some((r, Shown::by_record(r)?))) {
                Some((record, shown)) => FrozenThread { stopped, pid: record.pid, tid: record.tid, shown },
                None => by_text(self.process.pid, stopped, read_task_status(self.process.pid, tid))?,
            });
        }
        Ok(threads)
    }

    /// Stops each, and reads what it is.
    fn stop_seized(&self, seized: Vec<Seized>, statuses: &Statuses) -> Result<Vec<FrozenThread>> {
        let (teller, told) = channel();
        // Fails only when nobody reads, and then there is no status. It must go for the reading to end.
        let tell = move |tid| {
            let _ = teller.send(tid);
        };
        let (stopped, texts) = if seized.len() < MANY {
            let stopped = self.wait_for_all(seized, tell)?;
            (stopped, statuses.read_all(&Mutex::new(told)))
        } else {
            let told = Mutex::new(told);
            thread::scope(|scope| {
                let helper = scope.spawn(|| statuses.read_all(&told));
                let stopped = self.wait_for_all(seized, tell);
                let mut texts = statuses.read_all(&told);
                texts.extend(helper.join().map_err(|_| Error::Invalid("reading the threads' status failed".into()))?);
                Ok::<_, Error>((stopped?, texts))
            })?
        };
        let mut texts: HashMap<i32, io::Result<Status>> = texts.into_iter().collect();
        let mut threads = Vec::with_capacity(stopped.len());
        for stopped in stopped {
            let tid = stopped.tid();
            let status = texts.remove(&tid).unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
            threads.push(by_text(self.process.pid, stopped, status)?);
        }
        Ok(threads)
    }

    /// Interrupts each, waits until it stands, tells its ID, and reads its registers.
    fn wait_for_all(&self, seized: Vec<Seized>, tell: impl Fn(i32)) -> Result<Vec<Stopped>> {
        let mut all = Vec::with_capacity(seized.len());
        let mut interrupted = VecDeque::with_capacity(AHEAD);
        let mut rest = seized.into_iter();
        loop {
            let next = rest.next();
            if let Some(thread) = next {
                match thread.interrupt() {
                    Ok(()) => {}
                    // It has ended; waiting for it will say so.
                    Err(LinuxError::Tracee { source: Errno::ESRCH, .. }) => {}
                    Err(e) => return Err(e.into()),
                }
                interrupted.push_back(thread);
                if interrupted.len() < AHEAD {
                    continue;
                }
            }
            let Some(thread) = interrupted.pop_front() else { return Ok(all) };
            all.extend(self.wait_for(thread, &tell)?);
        }
    }

    fn wait_for(&self, thread: Seized, tell: impl Fn(i32)) -> Result<Option<Stopped>> {
        let tid = thread.tid();
        let waited = match self.avoided.is_empty() {
            true => thread.wait_stopped().map_err(Error::from),
            false => self.wait_outside(thread),
        };
        let (stopped, stop) = match waited {
            Ok(stopped) => stopped,
            Err(Error::Linux(LinuxError::Gone { .. })) => return Ok(None),
            Err(e) => return Err(e),
        };
        if let Stop::Event { signal } = stop
            && signal != nix::libc::SIGTRAP
        {
            self.saw_group_stop.set(true);
        }
        tell(tid);
        if matches!(self.source, Source::Text(_)) {
            // They are wanted in any case, and reading them gives the others time.
            stopped.registers()?;
            stopped.signal_mask()?;
            stopped.rseq()?;
        }
        Ok(Some(stopped))
    }
}

impl SeizedProcess {
    /// Waits until a thread stands outside the code that is avoided. It is inside for less than a microsecond at a time.
    fn wait_outside(&self, thread: Seized) -> Result<(Stopped, Stop)> {
        const TRIES: u32 = 500;
        const LEEWAY: Duration = Duration::from_micros(20);
        let tid = thread.tid();
        let mut waited = thread.wait_stopped()?;
        for _ in 0..TRIES {
            let rip = waited.0.registers()?.rip;
            if !self.avoided.iter().any(|code| code.contains(&rip)) {
                return Ok(waited);
            }
            // Its tracer could run it on: for a while, which is further than out of there, or step by step; but whose tracer dies
            // while it is stepped is killed by SIGTRAP.
            if matches!(waited.1, Stop::Event { signal } if signal != nix::libc::SIGTRAP) {
                let why = format!(
                    "thread {tid} is stopped in the middle of the vDSO, and the destination has another; continue it"
                );
                return Err(Error::Refused(vec![why]));
            }
            waited.0.resume_unnoticed()?;
            // On its way, when there is but one CPU for both: it would be stopped again before its first instruction.
            thread::sleep(LEEWAY);
            let again = seize(self.process, tid)?;
            again.interrupt()?;
            waited = again.wait_stopped()?;
        }
        let why = format!("thread {tid} never leaves the vDSO, and the destination has another; try again");
        Err(Error::Refused(vec![why]))
    }
}

/// Attaches to a thread of a process that runs. Err: or it is at its end.
pub fn seize(process: Process, tid: i32) -> Result<Seized> {
    let pid = process.pid;
    if tid != pid {
        return Ok(Seized::seize(tid, false)?);
    }
    // While others go on its end is told nobody: this hears of it, unless it has begun by now.
    let first = Seized::seize_noticing_end(tid)?;
    let stat = read_task_stat(pid, tid).doing(|| format!("read thread {tid}"))?;
    if stat.is_exiting() {
        // Nothing is told of it any more, and nothing needs to be.
        std::mem::forget(first);
        return Err(Error::Refused(vec![process.why_lost()]));
    }
    Ok(first)
}

fn has_ended(pid: i32, tid: i32) -> bool {
    match read_task_stat(pid, tid) {
        Ok(stat) => stat.is_exiting(),
        Err(error) => is_gone(&error),
    }
}

fn by_text(pid: i32, stopped: Stopped, status: io::Result<Status>) -> Result<FrozenThread> {
    let tid = stopped.tid();
    let status = status.doing(|| format!("read thread {tid}"))?;
    let (pid, tid) = (innermost(&status.ns_tgid, pid), innermost(&status.ns_pid, tid));
    Ok(FrozenThread { stopped, pid, tid, shown: Shown::by_text(&status) })
}

/// The threads' status files.
#[derive(Debug)]
struct Statuses {
    pid: i32,
    open: HashMap<i32, File>,
}

impl Statuses {
    /// None of them open.
    fn new(pid: i32) -> Statuses {
        Statuses { pid, open: HashMap::new() }
    }

    /// One that cannot be opened now, for want of descriptors perhaps, is opened when it is read.
    fn open(&mut self, tid: i32) {
        if let Ok(file) = File::open(format!("/proc/{}/task/{tid}/status", self.pid)) {
            self.open.insert(tid, file);
        }
    }

    /// Reads those of the threads that are told, until there is nobody left to tell; several OS threads may share that.
    fn read_all(&self, told: &Mutex<Receiver<i32>>) -> Vec<(i32, io::Result<Status>)> {
        let next = || told.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        let mut all = Vec::new();
        while let Some(tid) = next() {
            let status = match self.open.get(&tid) {
                Some(file) => read_status_from(file, self.pid, tid),
                None => read_task_status(self.pid, tid),
            };
            all.push((tid, status));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Child, Command};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;
    use crate::proc::maps::{Name, read_maps};

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn looping_shell() -> Killed {
        Killed(Command::new("bash").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }

    #[test]
    fn one_that_is_stopped_inside_the_code_that_is_avoided_is_refused_and_stays_stopped() {
        let shell = looping_shell();
        let pid = shell.0.id() as i32;
        thread::sleep(Duration::from_millis(50));
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        let state = || read_task_stat(pid, pid).unwrap().state;
        while state() != b'T' {
            thread::yield_now();
        }
        let everywhere = std::iter::once(0..u64::MAX).collect();
        let why = SeizedProcess::seize(Process { pid, alive: pid }, None)
            .unwrap()
            .avoiding(everywhere)
            .stop()
            .err()
            .unwrap()
            .to_string();
        assert!(why.contains("stopped in the middle of the vDSO") && why.contains("continue it"), "{why}");
        // Let go of, it stops again on its way back to its code.
        while state() != b'T' {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(state(), b'T');
    }

    /// The shell is in its own code most of the time, and now and then in the C library.
    #[test]
    fn a_thread_on_the_same_cpu_gets_out_of_the_code_that_is_avoided() {
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        let shell = looping_shell();
        let pid = shell.0.id() as i32;
        thread::sleep(Duration::from_millis(50));
        let maps = read_maps(pid).unwrap();
        let code = maps
            .iter()
            .find(|m| m.exec && matches!(&m.name, Name::File(path) if path.as_bytes().ends_with(b"bash")))
            .unwrap();
        for _ in 0..50 {
            let process = SeizedProcess::seize(Process { pid, alive: pid }, None)
                .unwrap()
                .avoiding(std::iter::once(code.start..code.end).collect());
            let standstill = process.stop().unwrap();
            let rip = standstill.threads.first().unwrap().stopped.registers().unwrap().rip;
            assert!(!(code.start..code.end).contains(&rip));
        }
    }
}
