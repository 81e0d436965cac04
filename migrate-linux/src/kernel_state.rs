//! Who tells what the kernel knows of all threads of a process, in one go.

use crate::error::Result;
use crate::kernel_module::KernelModule;
use crate::kernel_module::uapi::Timer;
use crate::thread_probe::{BoundProbe, ThreadRecord, tell_time};

/// A way of asking, bound to one process.
#[derive(Debug)]
pub enum KernelStateSource {
    /// A BPF iterator.
    Iterator(BoundProbe),
    /// The kernel module.
    Module {
        /// It.
        module: KernelModule,
        /// The process.
        pid: i32,
        /// Its waits are watched, also those of which the kernel notes nothing.
        watches: bool,
    },
}

impl KernelStateSource {
    /// Its name, as the operator chooses it and the report tells it.
    pub fn name(&self) -> &'static str {
        match self {
            KernelStateSource::Iterator(_) => "ebpf",
            KernelStateSource::Module { .. } => "kmod",
        }
    }

    /// What the kernel knows of every thread of the process, now. None of a process that has ended.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn read(&self) -> Result<Vec<ThreadRecord>> {
        let mut records = match self {
            KernelStateSource::Iterator(probe) => probe.read(),
            KernelStateSource::Module { module, pid, .. } => module.read_threads(*pid),
        }?;
        tell_time(&mut records);
        Ok(records)
    }

    /// What the kernel knows of its POSIX timers, now, as far as this tells.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn read_timers(&self) -> Result<Vec<Timer>> {
        match self {
            KernelStateSource::Iterator(_) => Ok(Vec::new()),
            KernelStateSource::Module { module, pid, .. } => module.read_timers(*pid),
        }
    }
}
