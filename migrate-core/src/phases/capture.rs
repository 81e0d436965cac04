//! Capture: what the frozen process is, read in batches, while the page streams send what memory is still to be sent.

use std::time::{Duration, Instant};

use migrate_linux::libc;
use migrate_linux::regs::{CallState, Registers, SYSCALL};
use migrate_linux::remote::{Batch, NOOK_SIZE, Ticket};
use migrate_linux::waits;
use nix::errno::Errno;
use nix::time::ClockId;
use nix::unistd::Pid;

use super::captured_files::CapturedFiles;
use super::freeze::{Frozen, FrozenProcess};
use super::pages::Pages;
use super::record::Record;
use super::subject::{Subject, children_of, refuse};
use super::transfer::{Prepared, transfer};
use super::undo::UndoList;
use crate::error::{Capturing, Doing, Error, Result};
use crate::image::layout::{LayoutChange, PAGE};
use crate::image::{Final, LayoutUpdate};
use crate::memory::send::Counted;
use crate::memory::verify::Digest;
use crate::phase::Phase;
use crate::proc::auxv::read_auxv_bytes;
use crate::proc::limits::read_limits;
use crate::proc::process::Process;
use crate::proc::stat::read_task_stat;
use crate::proc::status::read_status;
use crate::protocol::message::{ToDestination, ToSource};
use crate::resources::process::job_control::JobControl;
use crate::resources::process::late_signals::Read;
use crate::resources::process::limits::Limits;
use crate::resources::process::memory_map::MemoryMap;
use crate::resources::process::posix_timers::{self, PosixTimers, Told};
use crate::resources::process::surroundings::Surroundings;
use crate::resources::process::{ProcessCalls, ProcessState, adjustments, lock_future};
use crate::resources::thread::cpu::{self, Cpu, Xstate};
use crate::resources::thread::wait::{self, Known, Renewed, Wait};
use crate::resources::thread::wait_end::Places;
use crate::resources::thread::{Credentials, ThreadCalls, ThreadState, confinement, parent_death};
use crate::resources::{FrozenThread, TaskKind};

/// Everything is known, and the last pages are on their way.
#[must_use]
pub struct Captured<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    pub(super) image: Final,
    /// The signals that it carries.
    pub(super) signals: Read,
    /// When its POSIX timers were asked.
    pub(super) timers_since: Instant,
    /// What the page streams had done before the last round.
    pub(super) counted: Counted,
}

impl<'r, 'o> Captured<'r, 'o> {
    /// Sends it, and waits until the destination could run the process.
    pub fn transfer(self) -> Result<Prepared<'r, 'o>> {
        transfer(self)
    }
}

/// Reads everything that is not memory.
pub fn capture<'r, 'o>(frozen: Frozen<'r, 'o>) -> Result<Captured<'r, 'o>> {
    let Frozen { record, mut undo, mut subject, mut pages } = frozen;
    record.enter(Phase::Capture);
    let counted = undo.held.streams.as_ref().map(|s| s.counters.snapshot()).unwrap_or_default();
    let mut layout = start_last_round(&undo, &mut subject, &mut pages)?;
    record.step("final scan");
    let mut digest = None;
    if pages.verify {
        let (taken, nothing) = take_digest(record, &mut undo, &subject, &mut pages, layout)?;
        (digest, layout) = (Some(taken), nothing);
    }
    let process = undo.held.frozen.as_mut().ok_or_else(|| Error::Invalid("nothing is frozen".into()))?;
    process.inject_executor(&subject.space.layout, &pages.source)?;
    undo.held.fault(5)?;
    let CapturedFiles { image: files, locks, owners } =
        capture_files(record, &mut subject, &mut pages, &mut undo, &mut layout)?;
    if let Some(digest) = &mut digest {
        // Of what has come up since it was taken, it holds nothing.
        digest.objects.resize(subject.space.unnamed.objects.len(), 0);
    }
    let sysv = subject.sysv.capture()?;
    let process = undo.held.frozen.as_mut().ok_or_else(|| Error::Invalid("nothing is frozen".into()))?;
    let timers = capture_timers(process)?;
    let timers_since = timers.since();
    let (mut process_state, mut threads, renewed) = capture_tasks(process, &subject, &pages)?;
    if let Some(loss) = wait::loss(&renewed, record.kernel_state != "ptrace") {
        record.warn(loss);
    }
    let queues = threads.iter_mut().map(|t| &mut t.calls.pending_signals);
    let queues = queues.chain([&mut process_state.calls.pending_signals]);
    process.job_control = JobControl::take_out(process.job_control.stopped, queues);
    process_state.job_control = process.job_control;
    let signals = Read::of(&process_state, &threads);
    process_state.posix_timers = timers.image(&process.timers, &process.threads, subject.process)?;
    if let Some(loss) = parent_death::loss(threads.iter().map(|thread| thread.calls.parent_death)) {
        record.warn(loss);
    }
    process_state.cpu_times = process.cpu_times.take();
    if process_state.cpu_times.is_none() {
        let loss = process_state.limits.take_off_cpu_time(|| cpu_time_of(subject.process.pid))?;
        loss.into_iter().for_each(|loss| record.warn(loss));
    }
    let gadget = process.gadget;
    let image = Final {
        layout,
        files,
        sent: 0,
        monotonic: 0,
        locks,
        owners,
        process: process_state,
        sysv,
        threads,
        ended_first: process.ended_first.take(),
        gadget,
        boot_id: subject.boot_id.clone(),
        last_round: pages.next_round - 1,
        digest,
    };
    undo.held.fault(6)?;
    // Ending the dirty tracking takes 25 ms a GiB: later.
    undo.held.pages = Some(pages);
    record.step("capture");
    Ok(Captured { record, undo, subject, image, signals, timers_since, counted })
}

/// Sets the page streams to work on what is left, and says how the address space has changed.
fn start_last_round(undo: &UndoList, subject: &mut Subject, pages: &mut Pages) -> Result<LayoutUpdate> {
    let look = pages.look(subject, false)?;
    // A page that was empty at the look before this one and holds something again is among the changed ones.
    let empty = std::mem::take(&mut pages.empty).union(&look.empty);
    let mut update = pages.update(subject, &empty)?;
    update.guards = pages.guards.ranges().iter().map(|r| (r.start, r.end)).collect();
    pages.layout_version += 1;
    pages.share_objects(subject);
    let pending = std::mem::take(&mut pages.pending);
    let chunks = pages.chunks(&subject.space, &look.changed.union(&pending).without(&pages.guards));
    let streams = undo.held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
    streams.begin_round(pages.next_round, pages.layout_version, false, chunks)?;
    pages.next_round += 1;
    Ok(update)
}

/// Has all pages put in place there, and takes a digest of them: before anything runs in the process, because the kernel writes to
/// the rseq area of a thread that does. Returns what is left to be said of the layout, too.
fn take_digest(
    record: &mut Record<'_>,
    undo: &mut UndoList,
    subject: &Subject,
    pages: &mut Pages,
    layout: LayoutUpdate,
) -> Result<(Digest, LayoutUpdate)> {
    let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
    peer.send(&ToDestination::Update(layout))?;
    let digest = Digest::of(&subject.space.layout, &pages.source)?;
    match peer.receive()? {
        ToSource::Updated => {}
        other => return Err(peer.unexpected(&other)),
    }
    let streams = undo.held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
    streams.finish_round(|_| record.cancel.check())?;
    pages.layout_version += 1;
    record.step("digest");
    record.verified = true;
    let nothing = LayoutUpdate { change: LayoutChange::none(&subject.space.layout), ..LayoutUpdate::default() };
    Ok((digest, nothing))
}

/// Looks at the open files again: descriptors may have come and gone since preflight. What has come up without a name is sent now.
fn capture_files(
    record: &mut Record<'_>,
    subject: &mut Subject,
    pages: &mut Pages,
    undo: &mut UndoList,
    layout: &mut LayoutUpdate,
) -> Result<CapturedFiles> {
    let findings = subject.refresh_files_again()?;
    refuse(findings.obstacles)?;
    findings.losses.into_iter().for_each(|loss| record.warn(loss));
    if let Some(chunks) = pages.new_content(subject, layout)? {
        let streams = undo.held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
        streams.begin_round(pages.next_round, pages.layout_version, false, chunks)?;
        pages.next_round += 1;
    }
    refuse(subject.files.lease_obstacles(subject.one_machine))?;
    let process = undo.held.frozen.as_mut().ok_or_else(|| Error::Invalid("nothing is frozen".into()))?;
    subject.files.capture(process)
}

/// What it has used, threads that have ended included.
fn cpu_time_of(pid: i32) -> Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).and_then(ClockId::now);
    clock.map(Duration::from).map_err(Into::into).doing(|| format!("read the CPU time of {pid}"))
}

/// Before the signals are read that wait: one that expires in between is found among these.
fn capture_timers(process: &mut FrozenProcess) -> Result<Told> {
    let known = process.told_timers()?;
    let timers = std::mem::take(&mut process.timers);
    let told = posix_timers::ask(&timers, &known, |batch| process.run(batch)).capturing(posix_timers::ROW.0);
    process.timers = timers;
    told
}

fn capture_tasks(
    process: &mut FrozenProcess,
    subject: &Subject,
    pages: &Pages,
) -> Result<(ProcessState, Vec<ThreadState>, Vec<Renewed>)> {
    let executor = process.executor.as_ref().ok_or_else(|| Error::Invalid("no executor".into()))?;
    let mut cpus = Vec::with_capacity(process.threads.len());
    let mut renewed = Vec::new();
    let mut places = Places::new(&subject.space.layout, &pages.source.memory, NOOK_SIZE);
    let mut known = Known { memory: &pages.source.memory, ends: &subject.ends, places: &mut places };
    finish_cut_sequences(&mut process.threads, pages)?;
    let mut area = Vec::new();
    for thread in &process.threads {
        let (cpu, wait) = capture_cpu(thread, subject, pages, &mut area, &mut known)?;
        cpus.push((
            cpu,
            wait.unwrap_or_else(|wait| {
                renewed.push(wait);
                None
            }),
        ));
    }
    let (mut asked, mut of_process, mut batches) = (Vec::new(), None, Vec::new());
    let mut recorded = Vec::with_capacity(cpus.len());
    for thread in &process.threads {
        // The first is asked what belongs to all.
        let record = thread.shown.record.as_ref().filter(|_| of_process.is_some());
        let calls = record.and_then(|record| ThreadCalls::recorded(record, Some(&thread.stopped)));
        if calls.is_none() {
            let mut batch = Batch::new();
            asked.push((ThreadCalls::ask(&mut batch), Credentials::ask(&mut batch)));
            if of_process.is_none() {
                let brk = batch.call(libc::SYS_brk, [0.into()]);
                of_process = Some((ProcessCalls::ask(&mut batch), brk, ask_for_children(&mut batch)));
            }
            batches.push(batch);
        }
        recorded.push(calls);
    }
    let to_ask = process.threads.iter_mut().zip(&recorded).filter(|(_, recorded)| recorded.is_none());
    let mut stopped: Vec<_> = to_ask.map(|(thread, _)| &mut thread.stopped).collect();
    let results = executor.run_in_all(&mut stopped, &batches)?;
    let mut threads = Vec::with_capacity(cpus.len());
    let mut process_calls = None;
    let mut answers = asked.iter().zip(&results);
    for ((thread, (cpu, wait)), recorded) in process.threads.iter().zip(cpus).zip(recorded) {
        if let Some(calls) = recorded {
            let credentials = thread.shown.credentials.clone();
            threads.push(ThreadState { tid: thread.tid, cpu, wait, credentials, calls });
            continue;
        }
        let ((asked, who), results) = answers.next().ok_or_else(|| Error::Invalid("a thread was not asked".into()))?;
        let calls = ThreadCalls::answer(asked, results, thread)?;
        let credentials = Credentials::answer(who, results, thread).capturing(Credentials::NAME)?;
        threads.push(ThreadState { tid: thread.tid, cpu, wait, credentials, calls });
        if process_calls.is_none()
            && let Some((asked, brk, children)) = &of_process
        {
            if results.value(*children) != Err(Errno::ECHILD) {
                let mut reasons = children_of(subject.process.pid)?;
                if reasons.is_empty() {
                    reasons.push("it has made a child process meanwhile; families cannot move yet".into());
                }
                return Err(Error::Refused(reasons));
            }
            let brk = results.value(*brk).map_err(|e| Error::io("read the program break".into(), e.into()))?;
            process_calls = Some((ProcessCalls::answer(asked, results, thread)?, brk));
        }
    }
    let (calls, brk) = process_calls.ok_or_else(|| Error::Invalid("a process without a first thread".into()))?;
    let Process { pid, alive } = subject.process;
    let limits = read_limits(pid).doing(|| format!("read the limits of {pid}"))?;
    let locked = process.status.vm_locked;
    let now = read_status(alive).doing(|| format!("read process {pid}"))?;
    let first_goes_on = process.ended_first.is_none();
    let may_filter = |n: usize| {
        n == 0 && first_goes_on || threads.get(n).is_some_and(|thread: &ThreadState| thread.credentials.may_filter())
    };
    let mut batch = Batch::new();
    let there = lock_future::ask(process.executor_end()? - PAGE, &mut batch);
    let results = process.run(&batch)?;
    let state = ProcessState {
        memory_map: memory_map(subject, brk).capturing("memory map")?,
        surroundings: Surroundings {
            working_directory: current_path(crate::proc::link::read_cwd(alive), "working directory")?,
            root: current_path(crate::proc::link::read_root(alive), "root directory")?,
            umask: now.umask.unwrap_or(0o022),
        },
        lock_future: lock_future::answer(locked, now.vm_locked, there, &results),
        adjustments: adjustments::capture(alive)?,
        limits: Limits(limits.map(|l| (l.soft, l.hard))),
        job_control: JobControl::default(),
        cpu_times: None,
        posix_timers: PosixTimers::default(),
        confinements: confinement::capture(&process.threads, may_filter)?,
        calls,
    };
    Ok((state, threads, renewed))
}

/// Whether it has children: ECHILD says no. Quicker than reading who is whose.
fn ask_for_children(batch: &mut Batch) -> Ticket {
    const P_ALL: i32 = 0;
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    batch.call(libc::SYS_waitid, [P_ALL.into(), 0.into(), 0.into(), options.into(), 0.into()])
}

fn current_path(link: std::io::Result<crate::proc::link::LinkTarget>, what: &'static str) -> Result<Vec<u8>> {
    match link {
        Ok(crate::proc::link::LinkTarget::Path { path, deleted: false }) => Ok(path.into_encoded_bytes()),
        Ok(_) => Err(Error::Refused(vec![format!("its {what} has been deleted meanwhile")])),
        Err(e) => Err(Error::io(format!("read its {what}"), e)),
    }
}

/// A thread that was stopped inside a restartable sequence goes on at its abort handler, here as there.
fn finish_cut_sequences(threads: &mut [FrozenThread], pages: &Pages) -> Result<()> {
    let mut with_area = Vec::with_capacity(threads.len());
    let mut pointers = Vec::with_capacity(threads.len());
    for (i, thread) in threads.iter().enumerate() {
        if let Some(pointer) = cpu::critical_section_pointer(&thread.stopped.rseq()?) {
            with_area.push(i);
            pointers.push((pointer, 8));
        }
    }
    let memory = &pages.source.memory;
    let mut words = vec![0; pointers.len() * 8];
    memory.read_ranges(&pointers, &mut words).doing(|| "read the threads' rseq areas".into())?;
    for (i, word) in with_area.into_iter().zip(words.as_chunks().0) {
        let section = u64::from_le_bytes(*word);
        let Some(thread) = threads.get_mut(i).filter(|_| section != 0) else { continue };
        let mut bytes = [0; 32];
        memory.read(section, &mut bytes).doing(|| "read a restartable sequence".into())?;
        let mut regs = thread.stopped.registers()?;
        if let Some(abort) = cpu::abort_address(regs.rip, &bytes) {
            regs.rip = abort;
            thread.stopped.set_registers(&regs)?;
        }
    }
    Ok(())
}

/// Its registers, and what it waits for.
type CapturedCpu = (Cpu, std::result::Result<Option<Wait>, Renewed>);

fn capture_cpu(
    thread: &FrozenThread,
    subject: &Subject,
    pages: &Pages,
    area: &mut Vec<u8>,
    known: &mut Known<'_>,
) -> Result<CapturedCpu> {
    let stopped = &thread.stopped;
    let mut regs = stopped.registers()?;
    if is_before_restart(&regs, pages) {
        regs = regs.noted();
    }
    if regs.restarts_again()
        && let Some(call) = interrupted_call(thread, &regs, subject, pages)
    {
        regs.orig_rax = call;
    }
    let signal_mask = stopped.signal_mask()?;
    // As was shown when it stood.
    let due = thread.shown.pending & !signal_mask != 0;
    let mut goes_on = regs.resumable(true, due);
    let wait = wait::capture(thread, &regs, &mut goes_on, known);
    Ok((Cpu { general: goes_on.to_words(), xstate: Xstate::pack(stopped.xstate(area)?), signal_mask }, wait))
}

/// Whether the thread is about to go on with a call that a stop before this one has interrupted: it has had no processor since. The kernel
/// there has noted nothing to go on with.
fn is_before_restart(regs: &Registers, pages: &Pages) -> bool {
    let mut code = [0; 2];
    regs.rax == libc::SYS_restart_syscall as u64
        && regs.call_state() == CallState::User
        && pages.source.memory.read(regs.rip, &mut code).is_ok()
        && code == SYSCALL
}

/// The number of a call that has been interrupted twice: known by what the kernel notes of it, else as seen before, else read from the
/// code, where mostly `mov $number, %eax` stands before `syscall`, else told by its arguments, which are still in the registers. None:
/// the program will see EINTR.
fn interrupted_call(thread: &FrozenThread, regs: &Registers, subject: &Subject, pages: &Pages) -> Option<u64> {
    let told = thread.shown.record.as_ref().and_then(|record| waits::Wait::noted(regs, record));
    if let Some(call) = told.or_else(|| subject.interrupted.get(&thread.stopped.tid()).copied()) {
        return Some(call);
    }
    let mut code = [0; 7];
    pages.source.memory.read(regs.rip.wrapping_sub(7), &mut code).ok()?;
    match code {
        [0xb8, a, b, c, d, 0x0f, 0x05] => Some(u64::from(u32::from_le_bytes([a, b, c, d]))),
        _ => waits::noted_by_arguments(regs, |address| {
            let mut bytes = [0; 16];
            pages.source.memory.read(address, &mut bytes).ok().map(|()| bytes)
        }),
    }
}

fn memory_map(subject: &Subject, brk: u64) -> Result<MemoryMap> {
    let Process { pid, alive } = subject.process;
    // Of one thread: for the process's, the times of all threads are summed up.
    let s = read_task_stat(pid, alive).doing(|| format!("read process {pid}"))?;
    Ok(MemoryMap {
        addresses: [
            s.start_code,
            s.end_code,
            s.start_data,
            s.end_data,
            s.start_brk,
            brk,
            s.start_stack,
            s.arg_start,
            s.arg_end,
            s.env_start,
            s.env_end,
        ],
        auxv: read_auxv_bytes(alive).doing(|| format!("read the auxiliary vector of {pid}"))?,
        executable: subject.executable.clone(),
    })
}
