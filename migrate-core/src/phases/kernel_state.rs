//! Which way the kernel is asked for what it knows of threads: the kernel module and a probe tell of all at once. A probe is loaded
//! while the memory is copied.

use std::thread::JoinHandle;

use migrate_linux::error::Error as LinuxError;
use migrate_linux::kernel_module::KernelModule;
use migrate_linux::kernel_state::KernelStateSource;
use migrate_linux::thread_probe::ThreadProbe;

use crate::error::{Error, Result};
use crate::plan::KernelStateChoice;

/// With fewer threads than this, loading the probe costs more than it saves.
pub const MANY: u64 = 16;

/// Who tells of all threads at once, perhaps a probe that is being loaded; or nobody.
#[derive(Debug)]
pub struct Loading {
    choice: KernelStateChoice,
    source: Option<Source>,
}

#[derive(Debug)]
enum Source {
    Begun(JoinHandle<Loaded>),
    Done(Loaded),
}

type Loaded = std::result::Result<KernelStateSource, LinuxError>;

/// What it would be good for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How many threads there are.
    pub threads: u64,
    /// Nobody else can tell when their waits end.
    pub waits: bool,
    /// Among these are waits of which the kernel notes nothing: they have to be watched.
    pub anew: bool,
    /// The CPU time that it has used can be set there.
    pub cpu_time: bool,
}

impl Loading {
    /// Nothing is loaded.
    pub fn none() -> Loading {
        Loading { choice: KernelStateChoice::Ptrace, source: None }
    }

    /// Opens the kernel module, or begins to load the probe.
    ///
    /// Err: the operator wants the module, and it cannot be used.
    pub fn begin(choice: KernelStateChoice, pid: i32, wanted: Wanted) -> Result<Loading> {
        let module = move || {
            let module = KernelModule::open()?;
            let watches = module.watch(pid)?;
            Ok(KernelStateSource::Module { module, pid, watches })
        };
        let probe = move || {
            let probe = ThreadProbe::load()?;
            if let Some(why) = probe.does_not_watch() {
                tracing::debug!("when waits end of which the kernel notes nothing is not seen: {why}");
            }
            Ok(KernelStateSource::Iterator(probe.bind(pid)?))
        };
        let source = match choice {
            KernelStateChoice::Ptrace => None,
            KernelStateChoice::Kmod => {
                let opened: Loaded = module();
                let opened = opened.map_err(|why| Error::Refused(vec![format!("{why}; use --kernel-state auto")]))?;
                Some(Source::Done(Ok(opened)))
            }
            KernelStateChoice::Ebpf => Source::begin(probe),
            KernelStateChoice::Auto => match module() {
                // Either would do for the rest.
                Ok(module @ KernelStateSource::Module { watches: false, .. }) if wanted.anew => {
                    Source::begin(move || probe().or(Ok(module)))
                }
                Ok(module) => Some(Source::Done(Ok(module))),
                Err(why) => {
                    let why: LinuxError = why;
                    tracing::debug!("{why}");
                    (wanted.waits || wanted.cpu_time || wanted.threads >= MANY).then(|| Source::begin(probe)).flatten()
                }
            },
        };
        Ok(Loading { choice, source })
    }

    /// Waits until it is loaded, or cannot be.
    pub fn wait(&mut self) {
        self.source = self.source.take().and_then(|source| match source {
            Source::Begun(loading) => loading.join().ok().map(Source::Done),
            done => Some(done),
        });
    }

    /// It, if it is known to be loaded.
    pub fn get(&self) -> Option<&KernelStateSource> {
        match &self.source {
            Some(Source::Done(loaded)) => loaded.as_ref().ok(),
            _ => None,
        }
    }

    /// Waits until it is loaded. None: without. Err: the operator wants it, and it cannot be had.
    pub fn finish(mut self) -> Result<Option<KernelStateSource>> {
        self.wait();
        match (self.source, self.choice) {
            (Some(Source::Done(Ok(source))), _) => Ok(Some(source)),
            (Some(Source::Done(Err(why))), KernelStateChoice::Ebpf) => {
                Err(Error::Refused(vec![format!("{why}; use --kernel-state auto")]))
            }
            (_, KernelStateChoice::Ebpf) => Err(Error::Invalid("loading the probe failed".into())),
            (Some(Source::Done(Err(why))), _) => {
                tracing::debug!("{why}; the threads are asked one by one");
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl Source {
    /// None: an OS thread that cannot be made is as good as a probe that cannot be loaded.
    fn begin(load: impl FnOnce() -> Loaded + Send + 'static) -> Option<Source> {
        std::thread::Builder::new().name("probe".into()).spawn(load).ok().map(Source::Begun)
    }
}
