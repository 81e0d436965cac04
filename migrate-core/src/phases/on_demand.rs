//! A probe that is loaded when something has been found of which nothing else tells.

use migrate_linux::error::Error as LinuxError;

use crate::plan::KernelStateChoice;

const JUST_NOW: &str = "the program has just begun to want that; try again";

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

    /// The same. `still`: there is no time for loading it.
    pub fn want_in_time(&mut self, still: bool, load: impl FnOnce() -> Result<P, LinuxError>) -> Result<&P, &str> {
        if still && self.is_unknown() { Err(JUST_NOW) } else { self.want(load) }
    }

    /// It. Err: why there is none, in words.
    pub fn get(&self) -> Result<&P, &str> {
        self.probe.as_ref().map_or(Err(JUST_NOW), |loaded| loaded.as_ref().map_err(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_loaded_once_and_in_time() {
        let mut wanted = OnDemand::new(KernelStateChoice::Auto);
        let too_late = wanted.want_in_time(true, || unreachable!("there is no time")).unwrap_err();
        assert!(too_late.ends_with("try again"), "{too_late}");
        assert!(wanted.is_unknown() && wanted.get().is_err());
        wanted.want(|| Ok(7)).unwrap();
        for still in [false, true] {
            wanted.want_in_time(still, || unreachable!("it is there")).unwrap();
        }
        assert_eq!(wanted.get(), Ok(&7));
    }

    #[test]
    fn why_there_is_no_probe_is_known() {
        let mut wanted = OnDemand::<u32>::new(KernelStateChoice::Ebpf);
        let failure = || Err(LinuxError::Unsupported("no BTF".into()));
        assert!(wanted.want(failure).unwrap_err().contains("no BTF"));
        assert!(wanted.get().unwrap_err().contains("no BTF"));
        let mut left_out = OnDemand::<u32>::new(KernelStateChoice::Ptrace);
        let why = left_out.want(|| unreachable!("it is not wanted")).unwrap_err();
        assert_eq!(why, "--kernel-state leaves it out");
    }
}
