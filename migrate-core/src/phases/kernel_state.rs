//! Which way the kernel is asked for what it knows of threads: a probe, which tells of all at once, is loaded while the memory is
//! copied.

use std::thread::JoinHandle;

use migrate_linux::error::Error as LinuxError;
use migrate_linux::thread_probe::{BoundProbe, ThreadProbe};

use crate::error::{Error, Result};
use crate::plan::KernelStateChoice;

/// With fewer threads than this, loading the probe costs more than it saves.
const MANY: u64 = 16;

/// A probe that is being loaded, or none.
#[derive(Debug)]
pub struct Loading {
    choice: KernelStateChoice,
    probe: Option<Probe>,
}

#[derive(Debug)]
enum Probe {
    Begun(JoinHandle<Loaded>),
    Done(Loaded),
}

type Loaded = std::result::Result<BoundProbe, LinuxError>;

impl Loading {
    /// Nothing is loaded.
    pub fn none() -> Loading {
        Loading { choice: KernelStateChoice::Ptrace, probe: None }
    }

    /// Begins to load it, if it is wanted for so many threads. `waits`: only it can tell when they end.
    pub fn begin(choice: KernelStateChoice, pid: i32, threads: u64, waits: bool) -> Loading {
        let wanted = match choice {
            KernelStateChoice::Auto => waits || threads >= MANY,
            KernelStateChoice::Ebpf => true,
            KernelStateChoice::Ptrace => false,
        };
        let load = move || ThreadProbe::load()?.bind(pid);
        // An OS thread that cannot be made is as good as a probe that cannot be loaded.
        let probe = wanted.then(|| std::thread::Builder::new().name("probe".into()).spawn(load).ok()).flatten();
        Loading { choice, probe: probe.map(Probe::Begun) }
    }

    /// Waits until it is loaded, or cannot be.
    pub fn wait(&mut self) {
        self.probe = self.probe.take().and_then(|probe| match probe {
            Probe::Begun(loading) => loading.join().ok().map(Probe::Done),
            done => Some(done),
        });
    }

    /// It, if it is known to be loaded.
    pub fn get(&self) -> Option<&BoundProbe> {
        match &self.probe {
            Some(Probe::Done(loaded)) => loaded.as_ref().ok(),
            _ => None,
        }
    }

    /// Waits until it is loaded. None: without. Err: the operator wants it, and it cannot be had.
    pub fn finish(mut self) -> Result<Option<BoundProbe>> {
        self.wait();
        match (self.probe, self.choice) {
            (Some(Probe::Done(Ok(probe))), _) => Ok(Some(probe)),
            (Some(Probe::Done(Err(why))), KernelStateChoice::Ebpf) => {
                Err(Error::Refused(vec![format!("{why}; use --kernel-state auto")]))
            }
            (_, KernelStateChoice::Ebpf) => Err(Error::Invalid("loading the probe failed".into())),
            (Some(Probe::Done(Err(why))), _) => {
                tracing::debug!("{why}; the threads are asked one by one");
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}
