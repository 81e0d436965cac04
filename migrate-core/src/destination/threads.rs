//! The new process's threads beside the first. Making one takes 25 µs, and giving it its credentials as much again: so both are done
//! before the freeze, by what the original's threads show while they run. In the freeze, one that turns out otherwise ends, and is
//! made again.

use std::collections::{HashMap, HashSet};

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteAddr, RemoteBuffer};
use migrate_linux::spawn::CloneArgs;
use migrate_linux::tracee::{Seized, Stopped};

use super::shell::Shell;
use crate::error::{Error, Result};
use crate::image::EarlyThread;
use crate::resources::thread::confinement::Confinements;
use crate::resources::thread::{Credentials, CredentialsImage, ThreadState};
use crate::resources::{Outside, TaskKind};

/// More than a kernel has (PID_MAX_LIMIT is 1 << 22).
const LIMIT: usize = 1 << 20;

const CLONE_PTRACE: u64 = 0x2000;
const THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64
    | CLONE_PTRACE;

/// A thread that has been made and has not run its program.
#[derive(Debug)]
struct Made {
    thread: Stopped,
    /// As it has been given them.
    credentials: CredentialsImage,
}

/// The threads beside the first, by their IDs.
#[derive(Debug, Default)]
pub struct Threads {
    made: HashMap<i32, Made>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        // As for Standing.
        self.made.drain().for_each(|(_, made)| std::mem::forget(made));
    }
}

impl Threads {
    /// Makes them, with their credentials.
    pub fn make(&mut self, wanted: &[EarlyThread], shell: &mut Shell) -> Result<()> {
        let numbers: HashSet<i32> = wanted.iter().map(|t| t.tid).collect();
        if wanted.len() > LIMIT || numbers.len() < wanted.len() || numbers.iter().any(|t| self.made.contains_key(t)) {
            return Err(Error::Invalid("the list of threads makes no sense".into()));
        }
        clone_all(wanted, shell)?;
        let mut batches = Vec::with_capacity(wanted.len());
        for early in wanted {
            // It stands at its birth: traced from there on (CLONE_PTRACE).
            let (thread, _) = Seized::adopt(early.tid).wait_stopped()?;
            self.made.insert(early.tid, Made { thread, credentials: early.credentials.clone() });
            let mut batch = Batch::new();
            Credentials::restore(&early.credentials, &mut batch);
            batches.push(batch);
        }
        let mut threads: HashMap<i32, &mut Stopped> = self.made.iter_mut().map(|(t, m)| (*t, &mut m.thread)).collect();
        let mut new: Vec<&mut Stopped> = wanted.iter().filter_map(|early| threads.remove(&early.tid)).collect();
        shell.executor.run_in_new(&mut new, &batches)?;
        Ok(())
    }

    /// Makes them those of the frozen process: ends those that it no longer has, and makes those that are new, or have other
    /// credentials than they were given.
    pub fn make_final(&mut self, images: &[ThreadState], shell: &mut Shell) -> Result<()> {
        let mut left = std::mem::take(&mut self.made);
        let mut missing = Vec::new();
        for image in images {
            match left.remove(&image.tid) {
                Some(made) if made.credentials == image.credentials => {
                    self.made.insert(image.tid, made);
                }
                other => {
                    left.extend(other.map(|made| (image.tid, made)));
                    missing.push(EarlyThread { tid: image.tid, credentials: image.credentials.clone() });
                }
            }
        }
        shell.executor.end_new(left.into_values().map(|made| made.thread).collect())?;
        self.make(&missing, shell)
    }

    /// Gives each what it has beside its credentials and registers. Returns them in the order of the images.
    pub fn restore(
        mut self,
        images: &[ThreadState],
        shell: &mut Shell,
        outside: &mut Outside,
        confinements: &Confinements,
    ) -> Result<Standing> {
        let mut batches = Vec::with_capacity(images.len());
        let mut threads = Standing(Vec::with_capacity(images.len()));
        // The first thread is not among them.
        for (n, image) in (1..).zip(images) {
            image.calls.restore_outside(image.tid, outside)?;
            let made = self.made.remove(&image.tid);
            let made = made.ok_or_else(|| Error::Invalid(format!("thread {} was not made", image.tid)))?;
            threads.0.push(made.thread);
            let mut batch = Batch::new();
            image.calls.restore(&mut batch);
            if confinements.confines_itself(n)
                && let Some(thread) = threads.0.last()
            {
                thread.suspend_seccomp(true)?;
                confinements.restore(n, &mut batch);
            }
            batches.push(batch);
        }
        let mut running: Vec<&mut Stopped> = threads.0.iter_mut().collect();
        shell.executor.run_in_new(&mut running, &batches)?;
        Ok(threads)
    }
}

/// Threads that must not run unless they are told to: dropped, they are left to end with their process.
#[derive(Debug, Default)]
pub struct Standing(Vec<Stopped>);

impl Standing {
    /// Each of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stopped> {
        self.0.iter_mut()
    }

    /// Takes them out: from here on they run when they are dropped.
    pub fn take(&mut self) -> Vec<Stopped> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.take().into_iter().for_each(std::mem::forget);
    }
}

/// In as few batches of clone3 as it takes.
fn clone_all(wanted: &[EarlyThread], shell: &mut Shell) -> Result<()> {
    let mut batch = Batch::new();
    let stack = shell.executor.range().start;
    for early in wanted {
        if !batch.has_room_for(1, 256) {
            shell.run(&batch)?;
            batch = Batch::new();
        }
        add_clone(&mut batch, early.tid, stack);
    }
    shell.run(&batch)?;
    Ok(())
}

/// `stack`: any; it gets other registers before it runs.
fn add_clone(batch: &mut Batch, tid: i32, stack: RemoteAddr) {
    const SET_TID_POINTER: usize = std::mem::offset_of!(CloneArgs, set_tid);
    let number: RemoteBuffer = batch.bytes(&tid.to_le_bytes());
    let args = CloneArgs { flags: THREAD_FLAGS, stack, stack_size: 16, set_tid_size: 1, ..CloneArgs::default() };
    let args = batch.bytes(&args.to_bytes());
    batch.point(args, SET_TID_POINTER, number);
    batch.must(libc::SYS_clone3, [args.into(), size_of::<CloneArgs>().into()]);
}
