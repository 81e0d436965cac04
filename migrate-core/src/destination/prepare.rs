//! Prepare: the process gets everything that is not memory, in three passes: create all, connect all, and (in
//! [`Runnable::go_live`]) go live.

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer};
use migrate_linux::spawn::CloneArgs;
use migrate_linux::tracee::{Seized, Stopped};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Making;
use super::shell::Shell;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::image::Final;
use crate::image::layout::find_hole;
use crate::protocol::message::Ready;
use crate::protocol::preamble::MigrationId;
use crate::resources::file::NewFiles;
use crate::resources::process::record_locks::{self, RecordLock};
use crate::resources::process::{attributes, limits, lock_future, memory_map, surroundings};
use crate::resources::thread::{ThreadState, cpu};
use crate::state::{Arrival, Named, StateDirectory};

/// The process, complete but perhaps for its locks. Dropped, it dies.
pub struct Runnable {
    pid: i32,
    /// Until the executor is out of it.
    unfinished: Option<Unfinished>,
    threads: Vec<Stopped>,
    live: bool,
    named: Named,
    /// Its state file. Dropped after the process has been killed.
    arrival: Option<Arrival>,
}

/// What is missing: locks that the original still holds, and then the executor's removal and the registers.
struct Unfinished {
    shell: Shell,
    others: Vec<Stopped>,
    locks: Vec<RecordLock>,
    cpus: Vec<cpu::Cpu>,
    gadget: u64,
}

/// Bytes of a new thread's block of calls.
const THREAD_BLOCK: u64 = 16 * 1024;

const CLONE_PTRACE: u64 = 0x2000;
const THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64
    | CLONE_PTRACE;

/// Makes the process complete. The source's last pages come meanwhile.
pub fn prepare(
    mut making: Making,
    mut image: Final,
    id: MigrationId,
    control: &TcpStream,
) -> Result<(Runnable, Ready)> {
    let mut steps = Steps::default();
    making.apply(&image.layout)?;
    steps.done("apply mappings");
    let pid = making.shell.pid;
    check(&image)?;

    // Descriptors: those that were made before the freeze, and have not changed, cost nothing.
    let executable = open_executable(&image)?;
    set_memory_map(&mut making, &image, &executable)?;
    let same_kernel = !image.boot_id.is_empty() && image.boot_id == crate::phases::boot_id();
    let files = std::mem::take(&mut image.files);
    making.descriptors.install(files, &image.descriptors, NewFiles::new(same_kernel, true), &mut making.shell)?;
    fault::point(24, control)?;
    steps.done("descriptors");
    let mut batch = Batch::new();
    surroundings::restore(&image.process.surroundings, &mut batch);
    making.shell.run(&batch)?;
    let warnings = limits::restore(&image.process.limits, pid);
    let mut threads = make_threads(&mut making, &image.threads)?;
    fault::point(25, control)?;
    steps.done("make threads");

    // A thread's rseq area must be in place before it is registered, and locking fills in pages.
    making.placement.wait_for_round(image.last_round, making.streams)?;
    steps.done("wait for pages");
    if let Some(digest) = &image.digest {
        making.verify(digest)?;
        steps.done("compare memory");
    }
    making.lock_memory()?;
    let blocks = threads.as_ref().map(|t| t.mapping);
    if let Some(threads) = threads.as_mut() {
        threads.run(&mut making)?;
    }
    restore_first_thread(&mut making, &image, blocks)?;
    steps.done("restore threads");
    let named = making.named;
    let mut unfinished = Unfinished {
        shell: making.shell,
        others: threads.as_mut().map_or_else(Vec::new, |t| std::mem::take(&mut t.threads)),
        locks: image.locks,
        cpus: image.threads.into_iter().map(|t| t.cpu).collect(),
        gadget: image.gadget,
    };
    let locks_wanted = !unfinished.take_locks()?;
    let mut runnable =
        Runnable { pid, unfinished: Some(unfinished), threads: Vec::new(), live: false, named, arrival: None };
    if !locks_wanted {
        runnable.finish()?;
    }
    steps.done("set registers");
    let arrival = Arrival::prepared(StateDirectory::of_this_host(), id, named);
    runnable.arrival = Some(arrival.doing(|| "write the state file".into())?);
    fault::point(26, control)?;
    steps.done("write state");
    Ok((runnable, Ready { warnings, locks_wanted, timings: steps.list }))
}

struct Steps {
    list: Vec<(String, u64)>,
    since: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Steps { list: Vec::new(), since: Instant::now() }
    }
}

impl Steps {
    fn done(&mut self, what: &str) {
        self.list.push((format!("there: {what}"), self.since.elapsed().as_micros() as u64));
        self.since = Instant::now();
    }
}

fn check(image: &Final) -> Result<()> {
    if image.threads.is_empty() || image.threads.len() > 1 << 20 {
        return Err(Error::Invalid(format!("{} threads", image.threads.len())));
    }
    Ok(())
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

/// The threads beside the first, standing at their birth, each with its block of calls.
struct NewThreads {
    threads: Vec<Stopped>,
    batches: Vec<Batch>,
    mapping: (u64, u64),
}

impl Drop for NewThreads {
    fn drop(&mut self) {
        // Those of a process that is given up must not be let go: they would run until it is killed.
        self.threads.drain(..).for_each(std::mem::forget);
    }
}

impl NewThreads {
    /// Lets all run their calls, at once.
    fn run(&mut self, making: &mut Making) -> Result<()> {
        making.shell.executor.run_newborn(&mut self.threads)?;
        for (i, batch) in self.batches.iter().enumerate() {
            let mut bytes = vec![0; batch.image_size()];
            making.shell.memory.read(self.block(i), &mut bytes).doing(|| "read a thread's results".into())?;
            batch.outcome(making.shell.pid, &bytes)?;
        }
        Ok(())
    }

    fn block(&self, i: usize) -> u64 {
        self.mapping.0 + i as u64 * THREAD_BLOCK
    }
}

/// Makes them in one batch of clone3. They are traced from birth (CLONE_PTRACE) and come out in the executor, at their blocks.
fn make_threads(making: &mut Making, images: &[ThreadState]) -> Result<Option<NewThreads>> {
    let others = images.get(1..).unwrap_or_default();
    if others.is_empty() {
        return Ok(None);
    }
    let size = others.len() as u64 * THREAD_BLOCK;
    let executor = making.shell.executor.range();
    let mut taken: Vec<(u64, u64)> = making.layout.vmas.iter().map(|v| (v.start, v.end)).collect();
    taken.push((executor.start, executor.end));
    taken.sort_unstable();
    let base = find_hole(taken.into_iter(), crate::phases::LOWEST, size)
        .ok_or_else(|| Error::Invalid("no room for the threads' calls".into()))?;
    let mut batch = Batch::new();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    batch.must(libc::SYS_mmap, [base.into(), size.into(), protection.into(), flags.into(), (-1).into(), 0.into()]);
    making.shell.run(&batch)?;
    let mut new = NewThreads { threads: Vec::new(), batches: Vec::new(), mapping: (base, base + size) };
    let mut clones = Batch::new();
    for (i, image) in others.iter().enumerate() {
        let mut calls = Batch::new();
        image.calls.restore(&mut calls);
        let block = new.block(i);
        let bytes = calls.image(block);
        if bytes.len() as u64 > THREAD_BLOCK {
            return Err(Error::Invalid(format!("thread {} needs {} bytes of calls", image.tid, bytes.len())));
        }
        making.shell.memory.write(block, &bytes).doing(|| "write a thread's calls".into())?;
        new.batches.push(calls);
        if !clones.has_room_for(1, 256) {
            making.shell.run(&clones)?;
            clones = Batch::new();
        }
        add_clone(&mut clones, image.tid, block);
    }
    making.shell.run(&clones)?;
    for image in others {
        let (thread, _) = Seized::adopt(image.tid).wait_stopped()?;
        new.threads.push(thread);
    }
    for (image, thread) in others.iter().zip(&new.threads) {
        image.calls.restore_outside(thread.tid())?;
    }
    Ok(Some(new))
}

fn add_clone(batch: &mut Batch, tid: i32, block: u64) {
    const SET_TID_POINTER: usize = std::mem::offset_of!(CloneArgs, set_tid);
    let number: RemoteBuffer = batch.bytes(&tid.to_le_bytes());
    // The kernel puts the stack pointer at stack + stack_size: the block.
    let args =
        CloneArgs { flags: THREAD_FLAGS, stack: block - 16, stack_size: 16, set_tid_size: 1, ..CloneArgs::default() };
    let args = batch.bytes(&args.to_bytes());
    batch.point(args, SET_TID_POINTER, number);
    batch.must(libc::SYS_clone3, [args.into(), size_of::<CloneArgs>().into()]);
}

/// The first thread's own calls and the process's; credentials last of all, and after them what they reset.
fn restore_first_thread(making: &mut Making, image: &Final, blocks: Option<(u64, u64)>) -> Result<()> {
    let first = image.threads.first().ok_or_else(|| Error::Invalid("no threads".into()))?;
    first.calls.restore_outside(making.shell.pid)?;
    let mut batch = Batch::new();
    if let Some((start, end)) = blocks {
        batch.must(libc::SYS_munmap, [start.into(), (end - start).into()]);
    }
    image.process.calls.restore(&mut batch);
    lock_future::restore(image.process.lock_future, &mut batch);
    // The socket, and behind it the files that mappings were made of.
    let socket = making.shell.socket_number();
    batch.must(libc::SYS_close_range, [socket.into(), u64::from(u32::MAX).into(), 0.into()]);
    first.calls.restore(&mut batch);
    attributes::restore_after_credentials(&image.process.calls.attributes, &mut batch);
    making.shell.run(&batch)?;
    Ok(())
}

impl Unfinished {
    /// Takes the locks that can be had. Ok(false): somebody has one of them.
    fn take_locks(&mut self) -> Result<bool> {
        if self.locks.is_empty() {
            return Ok(true);
        }
        let mut batch = Batch::new();
        let tickets = record_locks::add_calls(&self.locks, true, &mut batch);
        let results = self.shell.run(&batch)?;
        for (ticket, lock) in tickets.into_iter().zip(&self.locks) {
            match results.value(ticket) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
                Err(e) => return Err(Error::io(format!("lock the file of descriptor {}", lock.descriptor), e.into())),
            }
        }
        Ok(true)
    }
}

impl Runnable {
    /// Takes the executor out and sets every thread's registers: nothing of ours is left in the process.
    fn finish(&mut self) -> Result<()> {
        // The shell last: on an error it is dropped first, and kills, before the threads could be let go.
        let Some(Unfinished { others, cpus, gadget, mut shell, .. }) = self.unfinished.take() else { return Ok(()) };
        shell.remove_executor(gadget)?;
        self.threads.push(shell.let_go()?);
        self.threads.extend(others);
        for (thread, image) in self.threads.iter_mut().zip(&cpus) {
            cpu::restore(image, thread)?;
        }
        Ok(())
    }

    /// The point of no return: the process runs. Returns its PID, and how the host's agent names it. Err: it does not, and never will.
    pub fn go_live(mut self, control: &TcpStream) -> Result<(i32, Named)> {
        fault::point(27, control)?;
        if let Some(unfinished) = self.unfinished.as_mut() {
            if !unfinished.take_locks()? {
                return Err(Error::Refused(vec!["another process was quicker to lock one of its files".into()]));
            }
            self.finish()?;
        }
        self.outlive_this_process()?;
        fault::point(28, control)?;
        let mut arrival = self.arrival.take().ok_or_else(|| Error::Invalid("it has no state file".into()))?;
        if !arrival.commit().doing(|| "rename the state file".into())? {
            return Err(Error::Refused(vec![
                "the source has asked meanwhile, and was told that it is not run here".into(),
            ]));
        }
        self.live = true;
        if let Err(error) = self.let_run(control) {
            // Those that are left go on when they are let go of, and the process stands at worst.
            tracing::error!("process {} is to run here: {error}", self.pid);
            self.threads.clear();
            kill(Pid::from_raw(self.pid), Signal::SIGCONT).map_err(Into::into).doing(|| "continue it".into())?;
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
        self.threads.iter().try_for_each(|thread| Ok(thread.outlive_tracer()?))
    }

    fn let_run(&mut self, control: &TcpStream) -> Result<()> {
        fault::point(29, control)?;
        if let Some(main) = self.threads.first_mut() {
            main.swallow_pending(libc::SIGSTOP)?;
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
        if !self.live && self.unfinished.take().is_none() && !self.threads.is_empty() {
            self.threads.drain(..).for_each(std::mem::forget);
            migrate_linux::spawn::kill_and_reap(self.pid);
        }
    }
}
