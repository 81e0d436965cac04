//! Prepare: the process gets everything that is not memory, in three passes: create all, connect all, and (in
//! [`Runnable::go_live`]) go live.

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use migrate_linux::downtime_probe::DowntimeProbe;
use migrate_linux::kernel_module::KernelModule;
use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::remote::{Batch, Results};
use migrate_linux::tracee::Stopped;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Making;
use super::descriptors::{Descriptors, GoingLive};
use super::shell::Shell;
use super::sysv_ipc::NewObjects;
use super::threads::Standing;
use super::vdso::OldVdso;
use crate::clocks::{self, HostClocks, Offsets};
use crate::error::{Capturing, Doing, Error, Result};
use crate::fault;
use crate::image::Final;
use crate::memory::posix_shm::NewPosixShm;
use crate::memory::segments::NewSegment;
use crate::protocol::message::Ready;
use crate::protocol::preamble::MigrationId;
use crate::resources::TaskKind;
use crate::resources::file::{NewFiles, owner};
use crate::resources::process::file_locks::{self, AT_ONCE, FileLock, LockKind};
use crate::resources::process::job_control::JobControl;
use crate::resources::process::posix_timers::TimerOwner;
use crate::resources::process::{
    adjustments, attributes, cpu_time, limits, lock_future, memory_map, posix_timers, surroundings,
};
use crate::resources::thread::wait::{self, Given};
use crate::resources::thread::{Credentials, EndedThread, cpu, parent_death};
use crate::state::{Arrival, Named, StateDirectory};

/// The process, complete but perhaps for its locks. Dropped, it dies.
pub struct Runnable {
    pid: i32,
    /// Until the executor is out of it.
    unfinished: Option<Unfinished>,
    /// The first thread, standing at its end, if it has ended in the original.
    ending: Option<Stopped>,
    /// Those that are to run.
    threads: Vec<Stopped>,
    live: bool,
    job_control: JobControl,
    /// Descriptions for which there is something to do after the commit.
    going_live: Option<GoingLive>,
    segments: Vec<NewSegment>,
    /// This process's own ends of its descriptors.
    descriptors: Descriptors,
    /// Waits that are given their time once more when they are to go on.
    waits: Vec<Given>,
    wait_clock: wait::Clock,
    /// Its CLOCK_MONOTONIC must have reached this before it runs; and its offsets.
    clock: Option<(i64, Offsets)>,
    posix_shm: Vec<NewPosixShm>,
    sysv: NewObjects,
    named: Named,
    /// Its state file. Dropped after the process has been killed.
    arrival: Option<Arrival>,
}

/// What is missing: locks that the original still holds, and then the executor's removal and the registers.
struct Unfinished {
    shell: Shell,
    others: Standing,
    locks: Vec<FileLock>,
    cpus: Vec<cpu::Cpu>,
    ended_first: Option<EndedThread>,
    gadget: u64,
}

/// Makes the process complete. The source's last pages come meanwhile.
pub fn prepare(
    mut making: Making,
    mut image: Final,
    id: MigrationId,
    control: &TcpStream,
) -> Result<(Runnable, Ready)> {
    let mut steps = Steps::default();
    check(&image)?;
    making.collapsing.stop();
    let place = first_place(&image);
    let others = image.threads.get(place..).unwrap_or_default();
    // To the rseq area of one that runs, be it to its end, the kernel writes: it must still be there.
    making.threads.end_others(others, &mut making.shell)?;
    making.apply(&image.layout)?;
    steps.done("apply mappings");
    let pid = making.shell.pid;

    // Threads first: a descriptor may be of one of them.
    making.threads.make_missing(others, &mut making.shell)?;
    fault::point(25, control)?;
    steps.done("make threads");

    // Descriptors: those that were made before the freeze, and have not changed, cost nothing.
    let executable = open_executable(&image)?;
    set_memory_map(&mut making, &image, &executable)?;
    let same_kernel = !image.boot_id.is_empty() && image.boot_id == crate::phases::boot_id();
    making.check_written_files(same_kernel)?;
    let files = std::mem::take(&mut image.files);
    let sent = sent_here(&image, making.clocks, steps.began)?;
    let new = NewFiles::new(pid, same_kernel, true).sent_at(image.sent, sent).with(&making.contents);
    making.descriptors.install(files, new, &mut making.shell)?;
    fault::point(24, control)?;
    steps.done("descriptors");
    let mut batch = Batch::new();
    surroundings::restore(&image.process.surroundings, &mut batch);
    making.shell.run(&batch)?;
    let mut warnings = limits::restore(&image.process.limits, pid);
    warnings.extend(adjustments::restore(&image.process.adjustments, pid)?);
    // A thread's rseq area must be in place before it is registered, and locking fills in pages.
    making.placement.wait_for_round(image.last_round, making.streams)?;
    steps.done("wait for pages");
    if let Some(digest) = &image.digest {
        making.verify(digest)?;
        steps.done("compare memory");
    }
    making.place_old_vdso()?;
    making.set_states()?;
    making.lock_and_seal()?;
    making.seal_objects()?;
    let mut others = std::mem::take(&mut making.threads).restore(
        place,
        others,
        &mut making.shell,
        &mut making.outside,
        &image.process.confinements,
    )?;
    let sysv = std::mem::take(&mut making.sysv).restore(&image.sysv, &mut making.shell)?;
    restore_cpu_times(&mut making, &mut others, &image)?;
    restore_first_thread(&mut making, &image, sent)?;
    let wait_clock = wait::Clock { sent_there: image.sent, sent };
    let waits = restore_waits(&mut making, &mut others, &mut image, wait_clock)?;
    warnings.append(&mut making.outside.warnings);
    steps.done("restore threads");
    let named = making.named;
    let clock = making.clocks.map(|offsets| (image.monotonic, offsets));
    let job_control = image.process.job_control;
    let going_live = making.descriptors.going_live();
    let segments = std::mem::take(&mut making.segments).into_values().collect();
    let posix_shm = std::mem::take(&mut making.posix_shm).into_values().collect();
    if let Some(other) = &making.other_cpu {
        image.threads.iter_mut().try_for_each(|thread| thread.cpu.xstate.fit(other))?;
    }
    // The original's may be in a vDSO that is not here.
    let gadget = making.old_vdso.as_ref().map_or(Ok(image.gadget), OldVdso::gadget)?;
    let mut unfinished = Unfinished {
        shell: making.shell,
        others,
        locks: image.locks,
        cpus: image.threads.into_iter().map(|t| t.cpu).collect(),
        ended_first: image.ended_first,
        gadget,
    };
    let locks_wanted = !unfinished.take_locks()?;
    let mut runnable = Runnable {
        pid,
        descriptors: making.descriptors,
        unfinished: Some(unfinished),
        ending: None,
        threads: Vec::new(),
        live: false,
        job_control,
        going_live: Some(going_live),
        segments,
        waits,
        wait_clock,
        clock,
        posix_shm,
        sysv,
        named,
        arrival: None,
    };
    if !locks_wanted {
        runnable.finish()?;
    }
    steps.done("set registers");
    let arrival = Arrival::prepared(StateDirectory::of_this_host(), id, named, job_control.stopped);
    runnable.arrival = Some(arrival.doing(|| "write the state file".into())?);
    fault::point(26, control)?;
    steps.done("write state");
    Ok((runnable, Ready { warnings, locks_wanted, timings: steps.list }))
}

struct Steps {
    began: Instant,
    list: Vec<(String, u64)>,
    since: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        let began = Instant::now();
        Steps { began, list: Vec::new(), since: began }
    }
}

impl Steps {
    fn done(&mut self, what: &str) {
        self.list.push((format!("there: {what}"), self.since.elapsed().as_micros() as u64));
        self.since = Instant::now();
    }
}

fn check(image: &Final) -> Result<()> {
    if image.threads.is_empty() {
        return Err(Error::Invalid(format!("{} threads", image.threads.len())));
    }
    image.process.confinements.check(image.threads.len())
}

/// The place of the first image that is none of the first thread's.
fn first_place(image: &Final) -> usize {
    if image.ended_first.is_some() { 0 } else { 1 }
}

fn open_executable(image: &Final) -> Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&image.process.memory_map.executable));
    std::fs::File::open(path).map(OwnedFd::from).doing(|| format!("open {}", path.display()))
}

fn set_memory_map(making: &mut Making, image: &Final, executable: &OwnedFd) -> Result<()> {
    let number = making.shell.give(&[executable.as_fd()])?.first().copied();
    let mut batch = Batch::new();
    memory_map::restore(&image.process.memory_map, number, &mut batch);
    if let Some(number) = number {
        batch.must(libc::SYS_close, [number.into()]);
    }
    making.shell.run(&batch)?;
    Ok(())
}

/// Makes the process's timers.
struct NewTimers<'a> {
    shell: &'a mut Shell,
    module: Option<&'a KernelModule>,
}

impl TimerOwner for NewTimers<'_> {
    fn run(&mut self, batch: &Batch) -> Result<Results> {
        self.shell.run(batch)
    }

    fn set_next_id(&mut self, id: i32) -> Result<bool> {
        let Some(module) = self.module.filter(|module| module.sets_next_timer()) else { return Ok(false) };
        let (first, _) = self.shell.first_thread()?;
        Ok(module.set_next_timer(first, id).map(|()| true)?)
    }

    fn set_missed(&mut self, id: i32, missed: i64) -> Result<bool> {
        let Some(module) = self.module else { return Ok(false) };
        let (first, _) = self.shell.first_thread()?;
        Ok(module.set_missed(first, id, missed).map(|()| true)?)
    }
}

/// When the image was sent, so that each timer and wait ends when the process's own clock shows its end: the way is counted as that clock
/// counts it. Of a process whose clock does not go on here: when the image came.
fn sent_here(image: &Final, clocks: Option<Offsets>, came: Instant) -> Result<Instant> {
    let Some(offsets) = clocks else { return Ok(came) };
    let shown = HostClocks::now()?.monotonic.saturating_add(offsets.monotonic);
    let now = Instant::now();
    let passed = shown.saturating_sub(image.monotonic);
    let since = Duration::from_nanos(passed.unsigned_abs());
    let sent = if passed < 0 { now.checked_add(since) } else { now.checked_sub(since) };
    Ok(sent.unwrap_or(came))
}

/// Before there are timers of CPU time: these expire by it.
fn restore_cpu_times(making: &mut Making, others: &mut Standing, image: &Final) -> Result<()> {
    let Some(times) = &image.process.cpu_times else { return Ok(()) };
    let (first, _) = making.shell.first_thread()?;
    let mut threads: Vec<&mut Stopped> = std::iter::once(first).chain(others.iter_mut()).collect();
    if image.ended_first.is_some() {
        threads.rotate_left(1);
    }
    times.restore(&threads, making.module.as_ref()).capturing(cpu_time::ROW.0)
}

/// The first thread's own calls and the process's; credentials last of all, and after them what they reset. `sent`: when the image was.
fn restore_first_thread(making: &mut Making, image: &Final, sent: Instant) -> Result<()> {
    let (pid, ended) = (making.shell.pid, image.ended_first.as_ref());
    let first = image.threads.first().ok_or_else(|| Error::Invalid("no threads".into()))?;
    match ended {
        Some(ended) => ended.restore_outside(pid, &mut making.outside)?,
        None => first.calls.restore_outside(None, pid, &mut making.outside)?,
    }
    let mut batch = Batch::new();
    image.process.calls.restore(None, &mut batch);
    lock_future::restore(image.process.lock_future, &mut batch);
    let timers = &image.process.posix_timers;
    if !timers.is_empty() {
        // Its handlers must be there before a timer can expire.
        making.shell.run(&std::mem::take(&mut batch))?;
        let mut process = NewTimers { shell: &mut making.shell, module: making.module.as_ref() };
        let losses = timers.restore(sent.elapsed(), &mut process).capturing(posix_timers::ROW.0)?;
        making.outside.warnings.extend(losses);
    }
    // The socket, and behind it the files that mappings were made of.
    let socket = making.shell.socket_number();
    batch.must(libc::SYS_close_range, [socket.into(), u64::from(u32::MAX).into(), 0.into()]);
    match ended {
        Some(ended) => ended.restore(&mut batch),
        None => first.calls.restore(None, &mut batch),
    }
    limits::restore_queued_signals(&image.process.limits, &mut batch);
    parent_death::clear(&mut batch);
    let confinements = &image.process.confinements;
    // It is the first of them unless it has ended, and then it is confined only as all are.
    let confines_itself = ended.is_none() && confinements.confines_itself(0);
    if confinements.confine_all() || confines_itself {
        // Calls are made in it until the executor is out of it.
        making.shell.suspend_seccomp()?;
        confinements.restore_all(&mut batch);
    }
    match ended {
        Some(ended) => ended.restore_credentials(&mut batch),
        None => {
            confinements.restore(0, &mut batch);
            Credentials::restore(&first.credentials, &mut batch);
        }
    }
    attributes::restore_after_credentials(&image.process.calls.attributes, &mut batch);
    making.shell.run(&batch)?;
    for part in image.owners.chunks(owner::AT_ONCE) {
        let mut batch = Batch::new();
        owner::restore(part, &mut batch);
        making.shell.run(&batch).capturing(owner::ROW.0)?;
    }
    Ok(())
}

/// Nothing is run in a thread afterwards that waits.
fn restore_waits(
    making: &mut Making,
    others: &mut Standing,
    image: &mut Final,
    clock: wait::Clock,
) -> Result<Vec<Given>> {
    let (first, executor) = making.shell.first_thread()?;
    let first = Some(first).filter(|_| image.ended_first.is_none());
    let mut threads: Vec<&mut Stopped> = first.into_iter().chain(others.iter_mut()).collect();
    let there = wait::There { executor, module: making.module.as_ref(), clock };
    wait::restore(&mut image.threads, &mut threads, &there, &mut making.outside.warnings)
}

impl Unfinished {
    /// Takes the locks that can be had. Ok(false): somebody has one of them.
    fn take_locks(&mut self) -> Result<bool> {
        if self.locks.is_empty() {
            return Ok(true);
        }
        for part in self.locks.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            let tickets = file_locks::add_calls(part, true, &mut batch);
            let results = self.shell.run(&batch)?;
            for (ticket, lock) in tickets.into_iter().zip(part) {
                match results.value(ticket) {
                    Ok(_) => {}
                    Err(Errno::EAGAIN) if lock.kind == LockKind::Lease => {
                        return Err(Error::Refused(vec![format!(
                            "the program's lease (F_SETLEASE) on the file of descriptor {} cannot be had here: another process has the file open; end that, or have the program release it",
                            lock.descriptor
                        )]));
                    }
                    Err(Errno::EAGAIN | Errno::EACCES) if lock.kind != LockKind::Lease => return Ok(false),
                    Err(e) => {
                        return Err(Error::io(format!("lock the file of descriptor {}", lock.descriptor), e.into()));
                    }
                }
            }
        }
        Ok(true)
    }
}

impl Runnable {
    /// Takes the executor out and sets every thread's registers: nothing of ours is left in the process.
    fn finish(&mut self) -> Result<()> {
        // The shell last: on an error it is dropped first, and kills, before the threads could be let go.
        let Some(Unfinished { mut others, cpus, ended_first, gadget, mut shell, .. }) = self.unfinished.take() else {
            return Ok(());
        };
        shell.remove_executor(gadget)?;
        match ended_first {
            None => self.threads.push(shell.let_go()?),
            Some(ended) => ended.end(self.ending.insert(shell.let_go()?), gadget)?,
        }
        self.threads.extend(others.take());
        for (thread, image) in self.threads.iter_mut().zip(&cpus) {
            cpu::restore(image, thread)?;
        }
        Ok(())
    }

    /// Closes this process's own ends of its descriptors: it must not run before, because while they are there nothing that it closes is
    /// really closed.
    pub fn close_own_ends(&mut self) {
        std::mem::take(&mut self.descriptors).close();
    }

    /// The point of no return: the process runs. Returns its PID, and how the host's agent names it. Err: it does not, and never will.
    /// `probe`: is to note when it runs first.
    pub fn go_live(mut self, probe: Option<&mut DowntimeProbe>, control: &TcpStream) -> Result<(i32, Named)> {
        fault::point(27, control)?;
        if let Some(unfinished) = self.unfinished.as_mut() {
            if !unfinished.take_locks()? {
                return Err(Error::Refused(vec!["another process was quicker to lock one of its files".into()]));
            }
            self.finish()?;
        }
        self.close_own_ends();
        self.outlive_this_process()?;
        fault::point(28, control)?;
        let mut arrival = self.arrival.take().ok_or_else(|| Error::Invalid("it has no state file".into()))?;
        if !arrival.commit().doing(|| "rename the state file".into())? {
            return Err(Error::Refused(vec![
                "the source has asked meanwhile, and was told that it is not run here".into(),
            ]));
        }
        self.live = true;
        if let Some((reached, offsets)) = self.clock.take()
            && let Err(error) = clocks::wait_until_reached(reached, &offsets)
        {
            tracing::warn!("the clock of process {}: {error}", self.pid);
        }
        self.segments.drain(..).for_each(NewSegment::keep);
        std::mem::take(&mut self.sysv).keep();
        let named = self.posix_shm.drain(..).filter_map(|new| new.go_live().err());
        for error in named.chain(self.going_live.take().map(GoingLive::go_live).unwrap_or_default()) {
            tracing::error!("process {}, which runs here now: {error}", self.pid);
        }
        if let Err(error) = self.give_waits_again() {
            tracing::warn!("process {}, which runs here now: {error}", self.pid);
        }
        if let Err(error) = self.let_run(probe, control) {
            // Those that are left go on when they are let go of, and the process stands at worst.
            tracing::error!("process {} is to run here: {error}", self.pid);
            self.threads.clear();
            if !self.job_control.stopped {
                kill(Pid::from_raw(self.pid), Signal::SIGCONT).map_err(Into::into).doing(|| "continue it".into())?;
            }
        }
        if let Err(error) = arrival.running() {
            tracing::warn!("renaming the state file: {error}");
        }
        Ok((self.pid, self.named))
    }

    /// Until here it would have died with this process. From here on it stands, by a SIGSTOP that is queued, should this process
    /// die: it must neither run before it is committed nor be lost afterwards. The agent finds it by its state file.
    fn outlive_this_process(&self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGSTOP).map_err(Into::into).doing(|| "pin the new process".into())?;
        self.threads.iter().chain(&self.ending).try_for_each(|thread| Ok(thread.outlive_tracer()?))
    }

    fn give_waits_again(&mut self) -> Result<()> {
        if self.waits.is_empty() {
            return Ok(());
        }
        // The first thread may be at its end.
        let alive = self.threads.first().map_or(self.pid, Stopped::tid);
        let memory = ProcessMemory::open(alive).doing(|| "open the memory of the new process".into())?;
        wait::give_again(&self.waits, &self.wait_clock, &mut self.threads, &memory)
    }

    fn let_run(&mut self, probe: Option<&mut DowntimeProbe>, control: &TcpStream) -> Result<()> {
        fault::point(29, control)?;
        let JobControl { stopped, continued } = self.job_control;
        // Before any other of its threads runs, it ends.
        if let Some(first) = self.ending.take() {
            first.detach()?;
        }
        if let Some(main) = self.threads.first_mut() {
            match stopped {
                true => main.take_stop().map(drop)?,
                false => main.swallow_pending(libc::SIGSTOP)?,
            }
        }
        if continued {
            // Sent before, the SIGSTOP would have taken it back.
            kill(Pid::from_raw(self.pid), Signal::SIGCONT).map_err(Into::into).doing(|| "send its SIGCONT".into())?;
        }
        // Until here it was on a processor for us alone.
        if let Some(Err(why)) = probe.map(DowntimeProbe::await_first_in) {
            tracing::warn!("its downtime is not measured: {why}");
        }
        for (i, thread) in self.threads.drain(..).enumerate() {
            thread.detach()?;
            if i == 0 {
                fault::point(30, control)?;
            }
        }
        Ok(())
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        // An unfinished one is still a shell, which sees to its own end.
        let threads = self.threads.drain(..).chain(self.ending.take());
        let count = if self.live { 0 } else { threads.map(std::mem::forget).count() };
        if self.unfinished.take().is_none() && count > 0 {
            migrate_linux::spawn::kill_and_reap(self.pid);
        }
    }
}
