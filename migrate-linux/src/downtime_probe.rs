//! How long a process stands still in a move, as the scheduler sees it: when its threads were last on a processor here and when first
//! there (ebpf/downtime.bpf.c). While a probe is there every switch between threads of the host takes a twentieth of a microsecond longer.

use crate::error::{Error, Result};
use crate::probe::cannot_be_loaded;

pub use probe::DowntimeProbe;

fn unsupported(why: impl std::fmt::Display) -> Error {
    cannot_be_loaded("the downtime", why)
}

#[cfg(not(probes))]
mod probe {
    use super::*;

    /// There is none.
    #[derive(Debug)]
    pub enum DowntimeProbe {}

    impl DowntimeProbe {
        /// Cannot be had.
        pub fn watch(_pid: i32) -> Result<DowntimeProbe> {
            Err(unsupported(crate::probe::BUILT_WITHOUT))
        }

        /// Of none.
        pub fn last_out(&self) -> Option<u64> {
            match *self {}
        }

        /// Of none.
        pub fn await_first_in(&mut self) -> Result<()> {
            match *self {}
        }

        /// Of none.
        pub fn first_in(&self) -> Option<u64> {
            match *self {}
        }
    }
}

#[cfg(probes)]
mod probe {
    use std::fmt;
    use std::os::fd::AsFd;

    use aya::maps::{Array, MapData};
    use aya::programs::BtfTracePoint;
    use aya::{Btf, Ebpf, EbpfLoader, Pod, include_bytes_aligned};

    use super::*;
    use crate::probe::{self, refused};
    use crate::task_iterator::TaskIterator;

    /// Watches one process.
    pub struct DowntimeProbe {
        process: u32,
        wanted: Array<MapData, Wanted>,
        seen: Array<MapData, Seen>,
        /// Its program works for as long as it is there.
        _object: Ebpf,
    }

    // As ebpf/downtime.bpf.c has them.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    struct Wanted {
        process: u32,
        awaited: u32,
    }

    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    struct Seen {
        last_out: u64,
        first_in: u64,
    }

    // SAFETY: made of integers without gaps, so that every pattern of bits is one of it.
    unsafe impl Pod for Wanted {}
    // SAFETY: the same.
    unsafe impl Pod for Seen {}

    impl fmt::Debug for DowntimeProbe {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("DowntimeProbe").field("process", &self.process).finish_non_exhaustive()
        }
    }

    impl DowntimeProbe {
        /// Watches a process from now on. Takes a tenth of a second.
        ///
        /// # Errors
        /// Built without the probes; the kernel is older than 6.1, has no BTF (CONFIG_DEBUG_INFO_BTF), or does not permit it (CAP_BPF
        /// and CAP_PERFMON); there is no such process.
        pub fn watch(pid: i32) -> Result<DowntimeProbe> {
            load(pid).map_err(unsupported)
        }

        /// When one of its threads last left a processor, nanoseconds of the host's CLOCK_BOOTTIME. None: none did since it is watched.
        ///
        /// A thread that has told its tracer that it stands may still be about to; one whose registers are known has.
        pub fn last_out(&self) -> Option<u64> {
            self.seen(|seen| seen.last_out)
        }

        /// From now on it is noted when one of its threads first gets on a processor.
        pub fn await_first_in(&mut self) -> Result<()> {
            let wanted = Wanted { process: self.process, awaited: 1 };
            self.wanted
                .set(0, wanted, 0)
                .map_err(|why| Error::Unsupported(format!("the probe for the downtime: {why}")))
        }

        /// When that was, nanoseconds of the host's CLOCK_BOOTTIME. None: it was not yet.
        pub fn first_in(&self) -> Option<u64> {
            self.seen(|seen| seen.first_in)
        }

        fn seen(&self, what: impl Fn(&Seen) -> u64) -> Option<u64> {
            self.seen.get(&0, 0).ok().map(|seen| what(&seen)).filter(|time| *time != 0)
        }
    }

    fn load(pid: i32) -> std::result::Result<DowntimeProbe, Box<dyn std::error::Error>> {
        static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/downtime.bpf.o"));
        let kernel = Btf::from_sys_fs()?;
        let mut object = EbpfLoader::new().btf(Some(&kernel)).load(OBJECT)?;
        let program = probe::program(&mut object, "which", "task", &kernel)?;
        let threads = TaskIterator::of_process(program.as_fd(), pid)?;
        let process = threads.records(64, |process| u32::from_ne_bytes(*process))?;
        let process = process.first().copied().ok_or("the process has ended")?;
        let mut wanted: Array<_, Wanted> = object.take_map("wanted").ok_or("no map")?.try_into()?;
        let seen = object.take_map("seen").ok_or("no map")?.try_into()?;
        wanted.set(0, Wanted { process, awaited: 0 }, 0)?;
        let program: &mut BtfTracePoint =
            object.program_mut("note_switch").ok_or("it is not in the object")?.try_into()?;
        program.load("sched_switch", &kernel).map_err(refused)?;
        program.attach()?;
        Ok(DowntimeProbe { process, wanted, seen, _object: object })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::tracee::Seized;
    use crate::waits::boot_time;

    const SHORTLY: Duration = Duration::from_millis(30);

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// One that is always at work, and one that always waits.
    #[test]
    fn it_sees_a_process_stop_and_go_on() {
        for script in ["while :; do :; done", "exec sleep 60"] {
            let child = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap();
            let child = Killed(child);
            let pid = child.0.id() as i32;
            std::thread::sleep(SHORTLY);
            let mut probe = match DowntimeProbe::watch(pid) {
                Ok(probe) => probe,
                Err(why) => return println!("SKIPPED probe for the downtime: {why}"),
            };
            std::thread::sleep(SHORTLY);
            let asked = boot_time();
            let thread = Seized::seize(pid, false).unwrap();
            thread.interrupt().unwrap();
            let (stopped, _) = thread.wait_stopped().unwrap();
            stopped.registers().unwrap();
            let stood = boot_time();
            let out = probe.last_out().unwrap();
            assert!(asked < out && out < stood, "{script}: {asked} {out} {stood}");
            assert_eq!(probe.first_in(), None);
            probe.await_first_in().unwrap();
            std::thread::sleep(SHORTLY);
            assert_eq!((probe.last_out(), probe.first_in()), (Some(out), None), "{script}");
            let let_go = boot_time();
            stopped.resume_unnoticed().unwrap();
            let into = std::iter::repeat_with(|| probe.first_in()).find_map(|into| into).unwrap();
            assert!(let_go < into && into < boot_time(), "{script}: {let_go} {into}");
            std::thread::sleep(SHORTLY);
            assert_eq!(probe.first_in(), Some(into), "{script}");
        }
    }

    #[test]
    fn of_a_process_that_has_ended_it_says_so() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        let why = DowntimeProbe::watch(pid).unwrap_err().to_string();
        assert!(why.contains("cannot be loaded"), "{why}");
    }
}
