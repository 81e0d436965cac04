//! The new process's threads beside the first, which may have ended in the original. Making one takes 25 µs, and running something in it as much again: so both are done
//! before the freeze, by what the original's threads show while they run. In the freeze they get what has changed; one that turns out
//! otherwise ends, and is made again.

use std::collections::{HashMap, HashSet};

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteAddr, RemoteBuffer};
use migrate_linux::spawn::CloneArgs;
use migrate_linux::tracee::{Seized, Stopped};

use super::shell::Shell;
use crate::error::{Error, Result};
use crate::image::EarlyThread;
use crate::resources::thread::confinement::Confinements;
use crate::resources::thread::{Credentials, CredentialsImage, ThreadCalls, ThreadState, rseq};
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
    /// Likewise; None: it has what it had at its birth.
    calls: Option<ThreadCalls>,
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
            self.made.insert(early.tid, Made { thread, credentials: early.credentials.clone(), calls: None });
            let mut batch = Batch::new();
            Credentials::restore(&early.credentials, &mut batch);
            batches.push(batch);
        }
        self.run_in(wanted.iter().map(|early| early.tid), batches, shell)
    }

    /// Ends those that the process does not have, or that can no longer become what it has.
    pub fn end_others<T: Wanted>(&mut self, wanted: &[T], shell: &mut Shell) -> Result<()> {
        let mut left = std::mem::take(&mut self.made);
        let kept = wanted.iter().filter_map(|wanted| {
            let (tid, made) = left.remove_entry(&wanted.tid())?;
            match made.can_become(wanted) {
                true => Some((tid, made)),
                false => {
                    left.insert(tid, made);
                    None
                }
            }
        });
        self.made = kept.collect();
        let end = left.into_values().map(|made| {
            let mut batch = Batch::new();
            if let Some(calls) = &made.calls {
                // What is there now belongs to another thread, perhaps.
                rseq::unregister(&calls.rseq, &mut batch);
                batch.must(libc::SYS_set_robust_list, [0u64.into(), 24u64.into()]);
                batch.must(libc::SYS_set_tid_address, [0u64.into()]);
            }
            (made.thread, batch)
        });
        Ok(shell.executor.end_new(end.collect())?)
    }

    /// Makes those that are not there.
    pub fn make_missing<T: Wanted>(&mut self, wanted: &[T], shell: &mut Shell) -> Result<()> {
        let missing = wanted.iter().filter(|wanted| !self.made.contains_key(&wanted.tid()));
        let early =
            |wanted: &T| EarlyThread { tid: wanted.tid(), credentials: wanted.credentials().clone(), calls: None };
        let missing: Vec<EarlyThread> = missing.map(early).collect();
        self.make(&missing, shell)
    }

    /// Gives each what it has beside its credentials and registers, while the original still runs. All of them are there.
    pub fn go_ahead(&mut self, wanted: Vec<EarlyThread>, shell: &mut Shell, outside: &mut Outside) -> Result<()> {
        if !rseq::is_written_always() {
            return Ok(());
        }
        let (mut tids, mut batches) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for EarlyThread { tid, calls, .. } in wanted {
            let (Some(calls), Some(made)) = (calls, self.made.get_mut(&tid)) else { continue };
            if let Some(batch) = made.give(calls, outside)? {
                tids.push(tid);
                batches.push(batch);
            }
        }
        self.run_in(tids, batches, shell)
    }

    /// Gives each what it still lacks beside its registers. Returns them in the order of the images. `place`: of the first of these images
    /// among all.
    pub fn restore(
        mut self,
        place: usize,
        images: &[ThreadState],
        shell: &mut Shell,
        outside: &mut Outside,
        confinements: &Confinements,
    ) -> Result<Standing> {
        let (mut tids, mut batches) = (Vec::with_capacity(images.len()), Vec::with_capacity(images.len()));
        for (n, image) in (place..).zip(images) {
            let made = self.made.get_mut(&image.tid);
            let made = made.ok_or_else(|| Error::Invalid(format!("thread {} was not made", image.tid)))?;
            let mut batch = made.give(image.calls.clone(), outside)?;
            if confinements.confines_itself(n) {
                made.thread.suspend_seccomp(true)?;
                confinements.restore(n, batch.get_or_insert_default());
            }
            if let Some(batch) = batch {
                tids.push(image.tid);
                batches.push(batch);
            }
        }
        self.run_in(tids, batches, shell)?;
        let threads = images.iter().filter_map(|image| self.made.remove(&image.tid));
        Ok(Standing(threads.map(|made| made.thread).collect()))
    }

    /// Runs a batch in each of these threads, which are there.
    fn run_in(&mut self, tids: impl IntoIterator<Item = i32>, batches: Vec<Batch>, shell: &mut Shell) -> Result<()> {
        let mut threads: HashMap<i32, &mut Stopped> = self.made.iter_mut().map(|(t, m)| (*t, &mut m.thread)).collect();
        let mut running: Vec<&mut Stopped> = tids.into_iter().filter_map(|tid| threads.remove(&tid)).collect();
        shell.executor.run_in_new(&mut running, &batches)?;
        Ok(())
    }
}

impl Made {
    fn can_become(&self, wanted: &impl Wanted) -> bool {
        let calls = self.calls.as_ref().zip(wanted.calls());
        self.credentials == *wanted.credentials() && calls.is_none_or(|(given, wanted)| wanted.can_follow(given))
    }

    /// What has to be run in it for it to have these; None: it has them.
    fn give(&mut self, calls: ThreadCalls, outside: &mut Outside) -> Result<Option<Batch>> {
        calls.restore_outside(self.calls.as_ref(), self.thread.tid(), outside)?;
        let mut batch = Batch::new();
        calls.restore(self.calls.as_ref(), &mut batch);
        self.calls = Some(calls);
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// A thread that the process has.
pub trait Wanted {
    /// Its ID in its own PID namespace.
    fn tid(&self) -> i32;
    /// Who it is.
    fn credentials(&self) -> &CredentialsImage;
    /// What else it has, if that is known.
    fn calls(&self) -> Option<&ThreadCalls>;
}

impl Wanted for EarlyThread {
    fn tid(&self) -> i32 {
        self.tid
    }

    fn credentials(&self) -> &CredentialsImage {
        &self.credentials
    }

    fn calls(&self) -> Option<&ThreadCalls> {
        self.calls.as_ref()
    }
}

impl Wanted for ThreadState {
    fn tid(&self) -> i32 {
        self.tid
    }

    fn credentials(&self) -> &CredentialsImage {
        &self.credentials
    }

    fn calls(&self) -> Option<&ThreadCalls> {
        Some(&self.calls)
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
