//! What files of /proc/PID read and set of a process: what goes into a core dump (coredump_filter), how readily it is killed when
//! memory runs out (oom_score_adj), and the nice value of its session (autogroup, sched(7)).

use std::fs;
use std::io;

use bincode::{Decode, Encode};

use crate::error::{Doing, Error, Result};
use crate::resources::Row;

/// What of them moves.
pub const ROW: Row = (
    "process adjustments",
    "core filter, OOM adjustment, autogroup's nice value; one that may not be set there is a warning",
);

/// What travels. None: the kernel was built without it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Adjustments {
    /// Which kinds of mappings are dumped, a bit each (core(5)).
    core_filter: Option<u32>,
    /// -1000 (never killed) to 1000.
    out_of_memory: i32,
    /// Of its session; the session of a process that has moved is its own.
    session_nice: Option<i32>,
}

/// Reads them.
pub fn capture(pid: i32) -> Result<Adjustments> {
    let read = |name: &str| match fs::read_to_string(path(pid, name)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read {}", path(pid, name)), e)),
    };
    let out_of_memory =
        fs::read_to_string(path(pid, OUT_OF_MEMORY)).doing(|| format!("read {OUT_OF_MEMORY} of {pid}"))?;
    Ok(Adjustments {
        core_filter: read(CORE_FILTER)?.and_then(|text| u32::from_str_radix(text.trim(), 16).ok()),
        out_of_memory: out_of_memory
            .trim()
            .parse()
            .map_err(|_| Error::Invalid(format!("{OUT_OF_MEMORY} of {pid} is {out_of_memory:?}")))?,
        session_nice: read(SESSION_NICE)?.and_then(|text| nice_in(&text)),
    })
}

/// Sets what is otherwise in the new process. Returns in words what could not be.
pub fn restore(wanted: &Adjustments, pid: i32) -> Result<Vec<String>> {
    let now = capture(pid)?;
    let mut warnings = Vec::new();
    let mut set = |differs: bool, name: &str, value: String| {
        if differs && let Err(e) = fs::write(path(pid, name), &value) {
            warnings.push(format!("its {name} could not be set to {value} there: {e}"));
        }
    };
    if let Some(filter) = wanted.core_filter {
        set(now.core_filter != wanted.core_filter, CORE_FILTER, format!("{filter:#x}"));
    }
    set(now.out_of_memory != wanted.out_of_memory, OUT_OF_MEMORY, wanted.out_of_memory.to_string());
    if let Some(nice) = wanted.session_nice {
        set(now.session_nice.unwrap_or(0) != nice, SESSION_NICE, nice.to_string());
    }
    Ok(warnings)
}

const CORE_FILTER: &str = "coredump_filter";
const OUT_OF_MEMORY: &str = "oom_score_adj";
const SESSION_NICE: &str = "autogroup";

fn path(pid: i32, name: &str) -> String {
    format!("/proc/{pid}/{name}")
}

/// Of "/autogroup-25 nice 3".
fn nice_in(text: &str) -> Option<i32> {
    text.trim().rsplit_once(" nice ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Sleeper {
            Sleeper(Command::new("sleep").arg("60").spawn().unwrap())
        }
        fn pid(&self) -> i32 {
            self.0.id() as i32
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_nice_value_of_a_session_is_read() {
        assert_eq!(nice_in("/autogroup-25 nice 3\n"), Some(3));
        assert_eq!(nice_in("/autogroup-25 nice -20\n"), Some(-20));
        assert_eq!(nice_in("\n"), None);
    }

    #[test]
    fn what_is_set_is_read_again() {
        let sleeper = Sleeper::new();
        let mut wanted = capture(sleeper.pid()).unwrap();
        wanted.out_of_memory = (wanted.out_of_memory + 100).min(1000);
        wanted.core_filter = wanted.core_filter.map(|filter| filter ^ 0x14);
        assert_eq!(restore(&wanted, sleeper.pid()).unwrap(), Vec::<String>::new());
        assert_eq!(capture(sleeper.pid()).unwrap(), wanted);
    }

    #[test]
    fn what_may_not_be_set_is_a_warning() {
        let sleeper = Sleeper::new();
        let mut wanted = capture(sleeper.pid()).unwrap();
        wanted.out_of_memory = -1001;
        let warnings = restore(&wanted, sleeper.pid()).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("oom_score_adj could not be set to -1001"), "{warnings:?}");
    }
}
