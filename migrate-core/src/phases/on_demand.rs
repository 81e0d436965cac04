//! A probe that is loaded when something has been found of which nothing else tells.

use migrate_linux::error::Error as LinuxError;

use crate::plan::KernelStateChoice;

/// It, if it has been wanted by now.
#[derive(Debug)]
pub struct OnDemand<P> {
    choice: KernelStateChoice,
    /// Or why there is none.
    probe: Option<Result<P, String>>,
}

impl<P> Default for OnDemand<P> {
    fn default() -> OnDemand<P> {
        OnDemand::new(KernelStateChoice::default())
    }
}

impl<P> OnDemand<P> {
    /// None yet.
    pub fn new(choice: KernelStateChoice) -> OnDemand<P> {
        OnDemand { choice, probe: None }
    }

    /// Nobody has wanted it by now.
    pub fn is_unknown(&self) -> bool {
        self.probe.is_none()
    }

    /// It has been loaded.
    pub fn tell_by(&mut self, probe: P) {
        self.probe = Some(Ok(probe));
    }

    /// Loads it, if that has not been done, which takes 60 ms. Err: why there is none, in words.
    pub fn want(&mut self, load: impl FnOnce() -> Result<P, LinuxError>) -> Result<&P, &str> {
        let load = || match self.choice {
            KernelStateChoice::Auto | KernelStateChoice::Ebpf => load().map_err(|why| why.to_string()),
            KernelStateChoice::Kmod | KernelStateChoice::Ptrace => Err("--kernel-state leaves it out".into()),
        };
        self.probe.get_or_insert_with(load).as_ref().map_err(String::as_str)
    }

    /// It, if it has been loaded.
    pub fn loaded(&self) -> Option<&P> {
        self.probe.as_ref().and_then(|loaded| loaded.as_ref().ok())
    }
}
