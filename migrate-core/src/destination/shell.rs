//! The empty process: made with the right numbers, everything unmapped but the executor, one socket open through which it is given
//! descriptors.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use migrate_linux::pidfd::PidFd;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::remote::{self, Batch, EXECUTOR_SIZE, Executor, Foothold, RemoteSyscalls};
use migrate_linux::spawn::{self, Numbers};
use migrate_linux::tracee::{Seized, Stopped};
use migrate_linux::{fdpass, libc, pid_namespace};

use crate::error::{Doing, Error, Result};
use crate::image::layout::{TASK_SIZE, find_hole};
use crate::phases::LOWEST;
use crate::proc::maps::{Mapping, Name, read_maps};
use crate::resources::file::socket::unix_calls::NewProcess;
use crate::resources::thread::rseq;

/// A process that is being made. Dropped before it is let go, it dies.
pub struct Shell {
    /// Its PID as this process sees it.
    pub pid: i32,
    /// Its first thread. None once it has been let go.
    main: Option<Stopped>,
    /// In it.
    pub executor: Executor,
    /// Its memory.
    pub memory: ProcessMemory,
    pidfd: PidFd,
    /// This end of its socket.
    socket: UnixStream,
    /// The number of its end.
    socket_number: i32,
}

/// More descriptors may have to be held than the soft limit allows.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Too low a limit shows when descriptors are received, with a better message.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

impl Shell {
    /// Makes it. `taken`: the addresses that the program uses, ascending; `highest`: its highest descriptor number.
    pub fn make(
        numbers: Numbers,
        taken: &[(u64, u64)],
        highest: i32,
        original_namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Shell> {
        let (socket, its_end) = UnixStream::pair().doing(|| "make a socket pair".into())?;
        let pid = match original_namespace {
            // This process lives in a mount namespace with a /proc of its own; the new one belongs where everything else is.
            Some(namespace) => pid_namespace::in_mount_namespace(namespace, || spawn::spawn(numbers))
                .doing(|| "change the mount namespace".into())??,
            None => spawn::spawn(numbers)?,
        };
        let made = Newborn(pid);
        let pidfd = PidFd::open(pid).doing(|| format!("open new process {pid}"))?;
        let thread = Seized::seize(pid, true)?;
        thread.interrupt()?;
        let (mut main, _) = thread.wait_stopped()?;
        let memory = ProcessMemory::open(pid).doing(|| format!("open the memory of new process {pid}"))?;
        let maps = read_maps(pid).doing(|| format!("read the mappings of new process {pid}"))?;
        let gadget = gadget_in(&maps, &memory)?;
        let hole = executor_hole(&maps, taken)?;
        let copy = memory.try_clone().doing(|| "open the memory again".into())?;
        // It dies with this process anyway.
        let foothold = Foothold { gadget, nook: None };
        let executor = Executor::inject(&mut main, copy, hole, foothold, libc::SIGURG)?;
        let socket_number = empty(&executor, &mut main, its_end.as_raw_fd(), highest)?;
        std::mem::forget(made);
        Ok(Shell { pid, main: Some(main), executor, memory, pidfd, socket, socket_number })
    }

    /// Runs one batch in its first thread.
    pub fn run(&mut self, batch: &Batch) -> Result<remote::Results> {
        let main = self.main.as_mut().ok_or_else(|| Error::Invalid("the process has been let go".into()))?;
        Ok(self.executor.calls_in(main)?.run(batch)?)
    }

    /// Its first thread, and the executor.
    pub fn first_thread(&mut self) -> Result<(&mut Stopped, &Executor)> {
        let main = self.main.as_mut().ok_or_else(|| Error::Invalid("the process has been let go".into()))?;
        Ok((main, &self.executor))
    }

    /// Gives it descriptors. Returns the numbers that they have there, in the order given.
    pub fn give(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<i32>> {
        let mut numbers = Vec::with_capacity(fds.len());
        for part in fds.chunks(fdpass::MAX_FDS) {
            fdpass::send_fds(self.socket.as_fd(), part, b"f").doing(|| format!("give {} descriptors", part.len()))?;
            let mut batch = Batch::new();
            // Laid out for address 0: its three pointers hold what must be added to the address that it gets.
            let layout = fdpass::remote_recvmsg(0, part.len());
            let message = batch.bytes(&layout);
            for at in fdpass::REMOTE_POINTERS {
                let target = layout.get(at..at + 8).and_then(|w| w.try_into().ok()).map_or(0, u64::from_ne_bytes);
                batch.point(message, at, message.skip(target as usize));
            }
            batch.must(libc::SYS_recvmsg, [self.socket_number.into(), message.into(), libc::MSG_CMSG_CLOEXEC.into()]);
            let results = self.run(&batch)?;
            let got = fdpass::received_fds(results.buffer(message))
                .doing(|| "receive descriptors in the new process".into())?;
            if got.len() != part.len() {
                return Err(Error::Invalid(format!(
                    "only {} of {} descriptors fit; raise RLIMIT_NOFILE of the agent",
                    got.len(),
                    part.len()
                )));
            }
            numbers.extend(got);
        }
        Ok(numbers)
    }

    /// Gives it descriptors that are not the program's: at numbers behind the socket, out of the way.
    pub fn give_aside(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<i32>> {
        let mut aside = Vec::with_capacity(fds.len());
        for part in fds.chunks(fdpass::MAX_FDS) {
            let arrived = self.give(part)?;
            let mut batch = Batch::new();
            let lowest = self.socket_number + 1;
            let moved: Vec<_> = arrived
                .iter()
                .map(|&number| {
                    let moved =
                        batch.must(libc::SYS_fcntl, [number.into(), libc::F_DUPFD_CLOEXEC.into(), lowest.into()]);
                    batch.must(libc::SYS_close, [number.into()]);
                    moved
                })
                .collect();
            let results = self.run(&batch)?;
            for ticket in moved {
                let number =
                    results.value(ticket).map_err(|e| Error::io("move a descriptor aside".into(), e.into()))?;
                aside.push(number as i32);
            }
        }
        Ok(aside)
    }

    /// Closes everything but the socket, and moves that out of the way of `highest`.
    pub fn close_all(&mut self, highest: i32) -> Result<()> {
        let mut batch = Batch::new();
        let old = self.socket_number;
        let new = socket_place(highest).max(old);
        if new != old {
            batch.must(libc::SYS_dup3, [old.into(), new.into(), libc::O_CLOEXEC.into()]);
        }
        close_others(&mut batch, new);
        self.run(&batch)?;
        self.socket_number = new;
        Ok(())
    }

    /// The number of its socket, for closing it last.
    pub fn socket_number(&self) -> i32 {
        self.socket_number
    }

    /// From here on its first thread confines itself, and calls are made in it all the same.
    pub fn suspend_seccomp(&self) -> Result<()> {
        let main = self.main.as_ref().ok_or_else(|| Error::Invalid("the process has been let go".into()))?;
        Ok(main.suspend_seccomp(true)?)
    }

    /// Takes the executor out; nothing can be run in it afterwards.
    pub fn remove_executor(&mut self, gadget: u64) -> Result<()> {
        let main = self.main.as_mut().ok_or_else(|| Error::Invalid("the process has been let go".into()))?;
        Ok(self.executor.remove(main, gadget)?)
    }

    /// Takes its first thread out: from here on its end is somebody else's business.
    pub fn let_go(mut self) -> Result<Stopped> {
        self.main.take().ok_or_else(|| Error::Invalid("the process has been let go".into()))
    }
}

impl NewProcess for Shell {
    fn give(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<i32>> {
        Shell::give(self, fds)
    }

    fn run(&mut self, batch: &Batch) -> Result<remote::Results> {
        Shell::run(self, batch)
    }

    fn take(&self, number: i32) -> Result<OwnedFd> {
        self.pidfd.get_fd(number).doing(|| format!("take descriptor {number} of new process {}", self.pid))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(main) = self.main.take() {
            std::mem::forget(main);
            spawn::kill_and_reap(self.pid);
        }
    }
}

/// Kills the process when making it fails half-way.
struct Newborn(i32);

impl Drop for Newborn {
    fn drop(&mut self) {
        spawn::kill_and_reap(self.0);
    }
}

fn gadget_in(maps: &[Mapping], memory: &ProcessMemory) -> Result<u64> {
    let vdso =
        maps.iter().find(|m| m.name == Name::Vdso).ok_or_else(|| Error::Invalid("this kernel gives no vDSO".into()))?;
    let mut code = vec![0; vdso.len() as usize];
    memory.read(vdso.start, &mut code).doing(|| "read the vDSO".into())?;
    remote::find_gadget(vdso.start, &code)
        .ok_or_else(|| Error::Invalid("the vDSO has no system call instruction".into()))
}

/// A hole that is free in both address spaces.
fn executor_hole(maps: &[Mapping], taken: &[(u64, u64)]) -> Result<u64> {
    let mut all: Vec<(u64, u64)> = maps.iter().map(|m| (m.start, m.end)).chain(taken.iter().copied()).collect();
    all.sort_unstable();
    find_hole(all.into_iter(), LOWEST, EXECUTOR_SIZE).ok_or_else(|| Error::Invalid("the address space is full".into()))
}

fn socket_place(highest: i32) -> i32 {
    highest.max(0).saturating_add(64)
}

fn close_others(batch: &mut Batch, keep: i32) {
    let keep = keep as u64;
    if keep > 0 {
        batch.must(libc::SYS_close_range, [0u64.into(), (keep - 1).into(), 0.into()]);
    }
    batch.must(libc::SYS_close_range, [(keep + 1).into(), u64::from(u32::MAX).into(), 0.into()]);
}

/// Takes away everything that was copied from this process. Returns where the socket is now.
fn empty(executor: &Executor, main: &mut Stopped, socket: i32, highest: i32) -> Result<i32> {
    let registered = main.rseq()?;
    let mut calls: RemoteSyscalls<'_> = executor.calls_in(main)?;
    let mut batch = Batch::new();
    rseq::unregister(&(registered.address, registered.size, registered.signature), &mut batch);
    batch.must(libc::SYS_set_robust_list, [0u64.into(), 24u64.into()]);
    batch.must(libc::SYS_set_tid_address, [0u64.into()]);
    // SS_DISABLE: this process's own alternate stack is about to be unmapped.
    let no_stack = batch.bytes(&[[0; 8], [2, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat());
    batch.must(libc::SYS_sigaltstack, [no_stack.into(), 0.into()]);
    let place = socket_place(highest);
    batch.must(libc::SYS_dup3, [socket.into(), place.into(), libc::O_CLOEXEC.into()]);
    close_others(&mut batch, place);
    let Range { start, end } = executor.range();
    batch.must(libc::SYS_munmap, [0u64.into(), start.into()]);
    batch.must(libc::SYS_munmap, [end.into(), (TASK_SIZE - end).into()]);
    calls.run(&batch)?;
    Ok(place)
}

/// Opened files, for handing over.
pub fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}
