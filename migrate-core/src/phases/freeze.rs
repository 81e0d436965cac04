//! The freeze: every thread stands, and whatever runs inside the process from here on is a batch of ours.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use migrate_linux::kernel_module::uapi::Timer;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::remote::{self, Batch, EXECUTOR_SIZE, Executor, Foothold, NOOK_SIZE, Results};
use migrate_linux::sched::Urgent;
use migrate_linux::throttle::Throttle;
use migrate_linux::tracee::Stopped;
use nix::sys::signal::Signal;

use super::capture::{Captured, capture};
use super::kernel_state::Loading;
use super::pages::Pages;
use super::pre_copy::Precopied;
use super::record::Record;
use super::stop::{Leftover, SeizedProcess, Standstill, seize};
use super::subject::Subject;
use super::undo::UndoList;
use super::waits;
use crate::error::{Doing, Error, Result};
use crate::image::layout::{Backing, EXEC, Layout, Vma, find_hole};
use crate::memory::layout::{AddressSpace, Pace};
use crate::memory::send::PageSource;
use crate::phase::Phase;
use crate::proc::process::Process;
use crate::proc::status::{Status, read_task_status};
use crate::proc::timers::{PosixTimer, read_timers};
use crate::resources::process::cpu_time::CpuTimes;
use crate::resources::process::job_control::JobControl;
use crate::resources::process::posix_timers;
use crate::resources::thread::EndedThread;
use crate::resources::thread::confinement::RISK;
use crate::resources::thread::unmovable;
use crate::resources::{FrozenThread, Shown};

/// The process, every thread of it stopped.
pub struct FrozenProcess {
    /// The one by which it is reached first: the first one, unless that has ended.
    pub threads: Vec<FrozenThread>,
    /// What is left of the first one, if it has ended.
    pub ended_first: Option<EndedThread>,
    /// Its `/proc/PID/status` of the one by which it is reached, read when they stood.
    pub status: Status,
    /// Whether it is stopped, and since it has been captured, whether a SIGCONT waits.
    pub job_control: JobControl,
    /// The CPU time that it has used, if it can be set there.
    pub cpu_times: Option<CpuTimes>,
    /// Its POSIX timers.
    pub timers: Vec<PosixTimer>,
    leftover: Option<Leftover>,
    /// In it, once it is there.
    pub executor: Option<Executor>,
    /// Address of a `syscall` instruction in its code.
    pub gadget: u64,
    /// A SIGSTOP is queued, so that it stands still even without this tracer.
    pub pinned: bool,
}

/// The process stands still.
#[must_use]
pub struct Frozen<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    pub(super) pages: Pages,
}

impl<'r, 'o> Frozen<'r, 'o> {
    /// Reads what the process is, and sends the pages that are still to be sent.
    pub fn capture(self) -> Result<Captured<'r, 'o>> {
        capture(self)
    }
}

/// Stops every thread, and puts an executor into the process.
pub fn freeze<'r, 'o>(precopied: Precopied<'r, 'o>) -> Result<Frozen<'r, 'o>> {
    let Precopied { record, mut undo, mut subject, mut pages } = precopied;
    let process = subject.process;
    undo.push("thaw", |held| match held.frozen.take() {
        Some(frozen) => frozen.thaw(),
        None => Ok(()),
    });
    let told_by = std::mem::replace(&mut subject.probe, Loading::none()).finish()?;
    if let Some(source) = &told_by {
        record.kernel_state = source.name();
    }
    let urgent = Urgent::begin();
    // Traced by one OS thread, it cannot be by another; in between it should not write all of its memory once more.
    let stood = undo.held.throttle.take().map(Throttle::end);
    let seized = SeizedProcess::seize(process, told_by);
    record.enter(Phase::Freeze);
    record.stands_still();
    let avoided = subject.vdso_to_keep_out_of();
    let timed = subject.sets_cpu_time;
    let stopped = seized.and_then(|process| process.avoiding(avoided).timed(timed).stop());
    drop(urgent);
    if let Some(stood) = stood {
        record.full_speed(stood);
    }
    let Standstill { threads, status, stopped, cpu_times, leftover } = stopped?;
    // From here on it is on a processor for us alone.
    record.measure.stands(&threads);
    let suspended = suspend_seccomp(&threads);
    if threads.iter().any(|thread| thread.shown.seccomp != 0) && !subject.losses.iter().any(|loss| loss == RISK) {
        record.warn(RISK.into());
    }
    let unmovable = unmovable_of(&threads);
    let reached = subject.is_still_reached(&threads);
    let frozen = FrozenProcess {
        threads,
        ended_first: None,
        status,
        job_control: JobControl { stopped, continued: false },
        cpu_times,
        timers: Vec::new(),
        leftover: Some(leftover),
        executor: None,
        gadget: 0,
        pinned: false,
    };
    undo.held.frozen = Some(frozen);
    undo.held.fault(4)?;
    let frozen = undo.held.frozen.as_mut().ok_or_else(|| Error::Invalid("nothing is frozen".into()))?;
    reached?;
    frozen.timers = read_timers(process.pid).doing(|| format!("read the timers of {process}"))?;
    if process.first_has_ended() {
        frozen.ended_first = Some(EndedThread::read(process.pid)?);
    }
    let mut obstacles = subject.space.read_quickly(process, Pace::Frozen)?;
    if pages.shared.may_be_shared() {
        subject.search_again();
    }
    obstacles.extend(subject.shared_memory()?);
    obstacles.extend(frozen.timer_obstacles());
    obstacles.extend(posix_timers::too_high(&frozen.timers).filter(|_| !subject.any_timer_id));
    obstacles.extend(subject.sysv.settle(process.pid, &frozen.threads)?);
    obstacles.extend(unmovable?);
    suspended?;
    if !obstacles.is_empty() {
        return Err(Error::Refused(obstacles));
    }
    frozen.gadget = find_gadget(&subject.space.layout, &pages.source)?;
    record.step("freeze");
    Ok(Frozen { record, undo, subject, pages })
}

/// What they do not allow themselves must not be the end of the calls that are made in them.
fn suspend_seccomp(threads: &[FrozenThread]) -> Result<()> {
    let confined = threads.iter().filter(|thread| thread.shown.seccomp != 0);
    confined.into_iter().try_for_each(|thread| Ok(thread.stopped.suspend_seccomp(false)?))
}

/// Why its threads cannot move; many may have the same reason, a few of them will do.
fn unmovable_of(threads: &[FrozenThread]) -> Result<Vec<String>> {
    const ENOUGH: usize = 4;
    let first = threads.first().map_or(0, |thread| thread.stopped.tid());
    let mut all = Vec::new();
    for thread in threads {
        all.extend(unmovable::reasons(thread, first)?);
        if all.len() >= ENOUGH {
            break;
        }
    }
    Ok(all)
}

/// A `syscall` instruction: the vDSO has some, else any code of the program will.
fn find_gadget(layout: &Layout, source: &PageSource) -> Result<u64> {
    let vdso = layout.vmas.iter().filter(|v| v.backing == Backing::Vdso);
    let code = layout.vmas.iter().filter(|v| v.protection & EXEC != 0 && v.backing != Backing::Vdso);
    for vma in vdso.chain(code) {
        let mut bytes = vec![0; vma.len().min(4 << 20) as usize];
        if source.memory.read(vma.start, &mut bytes).is_ok()
            && let Some(gadget) = remote::find_gadget(vma.start, &bytes)
        {
            return Ok(gadget);
        }
    }
    Err(Error::Refused(vec!["no system call instruction was found in its code".into()]))
}

/// Unused bytes at the end of a program's or a library's code.
fn find_nook(layout: &Layout, source: &PageSource) -> Option<u64> {
    let is_code = |v: &&Vma| v.protection & EXEC != 0 && !v.shared && matches!(v.backing, Backing::File { .. });
    layout.vmas.iter().filter(is_code).map(|v| v.end.saturating_sub(NOOK_SIZE)).find(|&nook| {
        let mut bytes = [0; NOOK_SIZE as usize];
        source.memory.read(nook, &mut bytes).is_ok() && remote::is_nook(&bytes)
    })
}

/// Has the process make a userfaultfd, takes a duplicate, and has it close its own; also when this agent is killed meanwhile. It
/// stands for less than a tenth of a millisecond.
pub fn borrow_userfaultfd(subject: &mut Subject, source: &PageSource) -> Result<OwnedFd> {
    let layout = &subject.space.layout;
    let foothold = Foothold { gadget: find_gadget(layout, source)?, nook: find_nook(layout, source) };
    let (mut stopped, status) = stop_one_thread(subject.process)?;
    if status.seccomp.unwrap_or(0) != 0 {
        stopped.suspend_seccomp(false)?;
    }
    let regs = stopped.registers()?;
    let tid = stopped.tid();
    subject.interrupts(tid, &regs);
    let cut = waits::cut(subject, &[(tid, regs)]);
    // User faults only: all that a program without privileges may ask for. Asynchronous write protection faults nowhere.
    const UFFD_USER_MODE_ONLY: i32 = 1;
    let flags = (nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK | UFFD_USER_MODE_ONLY) as u64;
    let call = (nix::libc::SYS_userfaultfd, [flags, 0, 0, 0, 0, 0]);
    let take = |descriptor| subject.pidfd.get_fd(descriptor);
    let taken = remote::with_opened(&mut stopped, &source.memory, foothold, call, take)?;
    stopped.resume_unnoticed()?;
    waits::begin_anew(subject, cut);
    taken.doing(|| "take the userfaultfd of the process".into())
}

/// Stops the thread by which it is reached alone, and reads its status.
fn stop_one_thread(process: Process) -> Result<(Stopped, Status)> {
    let thread = seize(process, process.alive)?;
    thread.interrupt()?;
    let (stopped, _) = thread.wait_stopped()?;
    let status = read_task_status(process.pid, process.alive).doing(|| format!("read process {process}"))?;
    Ok((stopped, status))
}

impl FrozenProcess {
    /// One thread alone, with an executor, of a process that nobody traces: for calls that concern all of it.
    pub fn one_thread_of(pid: i32) -> Result<FrozenProcess> {
        let process = Process::of(pid).doing(|| format!("read process {pid}"))?;
        let mut space = AddressSpace::default();
        // What cannot move is no matter here.
        space.read_all(process)?;
        let memory = ProcessMemory::open(process.alive).doing(|| format!("open the memory of {pid}"))?;
        let source = PageSource { memory, objects: Mutex::default() };
        let gadget = find_gadget(&space.layout, &source)?;
        let (stopped, status) = stop_one_thread(process)?;
        let threads = vec![FrozenThread { stopped, pid, tid: process.alive, shown: Shown::by_text(&status) }];
        suspend_seccomp(&threads)?;
        let mut process = FrozenProcess {
            threads,
            ended_first: None,
            status,
            job_control: JobControl::default(),
            cpu_times: None,
            timers: Vec::new(),
            leftover: None,
            executor: None,
            gadget,
            pinned: false,
        };
        process.inject_executor(&space.layout, &source)?;
        Ok(process)
    }

    /// Puts an executor into a hole of the address space.
    pub fn inject_executor(&mut self, layout: &Layout, source: &PageSource) -> Result<()> {
        let hole = find_hole(layout.vmas.iter().map(|v| (v.start, v.end)), LOWEST, EXECUTOR_SIZE)
            .ok_or_else(|| Error::Refused(vec!["its address space is full".into()]))?;
        let foothold = Foothold { gadget: self.gadget, nook: find_nook(layout, source) };
        let status = &self.status;
        let signal = remote::quiet_signal(status.sig_caught, status.sig_pending | status.shared_pending);
        let first = self.first()?;
        let memory = source.memory.try_clone().doing(|| "open the process's memory".into())?;
        let executor = Executor::inject(&mut first.stopped, memory, hole, foothold, signal)?;
        self.executor = Some(executor);
        Ok(())
    }

    /// Takes the SIGSTOP back.
    pub fn unpin(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.pinned) {
            return Ok(());
        }
        let continued = self.job_control.continued;
        let first = &mut self.first()?.stopped;
        first.swallow_pending(nix::libc::SIGSTOP)?;
        // The SIGSTOP has taken it back.
        // By the ID of any thread a signal is sent to the process.
        if continued { send(first.tid(), Signal::SIGCONT).doing(|| "send SIGCONT again".into()) } else { Ok(()) }
    }

    /// What is told of its POSIX timers without asking it.
    pub fn told_timers(&self) -> Result<Vec<Timer>> {
        match &self.leftover {
            Some(leftover) if !self.timers.is_empty() => leftover.timers(),
            _ => Ok(Vec::new()),
        }
    }

    /// Behind the executor's last byte.
    pub fn executor_end(&self) -> Result<u64> {
        let executor = self.executor.as_ref().ok_or_else(|| Error::Invalid("no executor".into()))?;
        Ok(executor.range().end)
    }

    /// Runs one batch in the first of its threads.
    pub fn run(&mut self, batch: &Batch) -> Result<Results> {
        let executor = self.executor.as_ref().ok_or_else(|| Error::Invalid("no executor".into()))?;
        let first =
            self.threads.first_mut().ok_or_else(|| Error::Invalid("a frozen process without threads".into()))?;
        Ok(executor.calls_in(&mut first.stopped)?.run(batch)?)
    }

    /// Reasons why its POSIX timers cannot move.
    fn timer_obstacles(&self) -> Vec<String> {
        let pid = self.threads.first().map_or(0, |t| t.pid);
        // Nor is it told of which a timer is when the first one has ended.
        let ended = self.ended_first.iter().map(|_| pid);
        let tids: Vec<i32> = self.threads.iter().map(|t| t.tid).chain(ended).collect();
        posix_timers::obstacles(&self.timers, pid, &tids)
    }

    /// The first of its threads.
    pub fn first(&mut self) -> Result<&mut FrozenThread> {
        self.threads.first_mut().ok_or_else(|| Error::Invalid("a frozen process without threads".into()))
    }

    /// Queues a SIGSTOP, so that the process stands, and does not run, should its tracer die from now on. Nothing can be run in it
    /// until [`FrozenProcess::unpin`]; the program never sees the signal.
    pub fn pin(&mut self, pid: i32) -> Result<()> {
        send(pid, Signal::SIGSTOP).doing(|| format!("pin process {pid}"))?;
        self.pinned = true;
        Ok(())
    }

    /// Ends it: it runs over there.
    pub fn kill(self, pid: i32) {
        // It cannot have run since it was frozen, so the number is still its own. Its parent reaps it.
        let _ = send(pid, Signal::SIGKILL);
        // The first thread ends last; one that had ended before is not traced.
        for thread in self.threads.into_iter().rev() {
            thread.stopped.wait_killed();
        }
    }

    /// Leaves it stopped by the SIGSTOP that is queued, no longer traced. The executor's mapping stays in it: to take that out, its
    /// first thread would have to run, and for that moment the SIGSTOP be taken back.
    pub fn leave_standing(self) -> Result<()> {
        let mut failure = Ok(());
        for thread in self.threads {
            let stopped = thread.stopped;
            let result = stopped.resume_unnoticed();
            failure = failure.and(result.map_err(Error::from));
        }
        failure
    }

    /// Lets it run here, as if nothing had happened.
    pub fn thaw(mut self) -> Result<()> {
        let (executor, gadget) = (self.executor.take(), self.gadget);
        let mut failure = self.unpin();
        for (i, thread) in self.threads.into_iter().enumerate() {
            let mut stopped = thread.stopped;
            let result = (|| {
                if i == 0
                    && let Some(executor) = &executor
                {
                    executor.remove(&mut stopped, gadget)?;
                }
                stopped.resume_unnoticed()
            })();
            failure = failure.and(result.map_err(Error::from));
        }
        failure
    }
}

fn send(pid: i32, signal: Signal) -> std::io::Result<()> {
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)?)
}

/// Below it nothing may be mapped (vm.mmap_min_addr is at most this).
pub const LOWEST: u64 = 0x10000;
