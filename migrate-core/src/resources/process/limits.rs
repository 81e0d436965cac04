//! The sixteen resource limits, soft and hard (getrlimit(2)). Set from outside, before the process changes its user: a root
//! without CAP_SYS_RESOURCE may still set those of its own processes, but raise no hard limit. What may not be is a warning.
//!
//! That of queued signals, when it is to be lower, is set by the process itself once its signals are queued: a program may lower it
//! below what it has in the queue.
//!
//! Where a process's CPU time begins at 0 over there ([`super::cpu_time`]), what it has used is taken off RLIMIT_CPU, which the program can
//! see: it is a warning.

use std::time::Duration;

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::Batch;
use migrate_linux::sched::{self, Limit, UNLIMITED};

use crate::error::Result;
use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = (
    "resource limits",
    "all sixteen, soft and hard, RLIMIT_CPU less what was used where CPU time begins at 0; a hard limit that may not be raised there is a warning",
);

/// What travels; see [`UNLIMITED`]. In the order of RLIMIT numbers, soft and hard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Limits(pub [(u64, u64); 16]);

impl Limits {
    /// Takes off what it has used of its CPU time. Returns what the operator should know.
    ///
    /// # Errors
    /// When `used` cannot tell.
    pub fn take_off_cpu_time(&mut self, used: impl FnOnce() -> Result<Duration>) -> Result<Option<String>> {
        let Some((soft, hard)) = self.0.get_mut(libc::RLIMIT_CPU as usize).filter(|limit| **limit != NO_LIMIT) else {
            return Ok(None);
        };
        // Limits are whole seconds. What is rounded up is lost, and it may be moved often.
        let used = (used()? + Duration::from_millis(900)).as_secs();
        if used == 0 {
            return Ok(None);
        }
        let before = *soft;
        for limit in [soft, hard].into_iter().filter(|limit| **limit != UNLIMITED) {
            *limit = limit.saturating_sub(used).max(1);
        }
        let (before, used) = (shown(before), Duration::from_secs(used));
        Ok(Some(format!(
            "RLIMIT_CPU, {before} s here, is less by the {used:?} of CPU time that it has used: that begins at 0 there"
        )))
    }
}

const NO_LIMIT: (u64, u64) = (UNLIMITED, UNLIMITED);
const QUEUED_SIGNALS: u32 = libc::RLIMIT_SIGPENDING;

/// Sets them. Returns what could not be set, in words.
pub fn restore(image: &Limits, pid: i32) -> Vec<String> {
    let mut warnings = Vec::new();
    for (resource, &(soft, hard)) in image.0.iter().enumerate() {
        let (resource, wanted) = (resource as u32, Limit { soft, hard });
        let Ok(now) = sched::limit(pid, resource) else { continue };
        if now == wanted || resource == QUEUED_SIGNALS && soft <= now.soft && hard <= now.hard {
            continue;
        }
        let Err(error) = sched::set_limit(pid, resource, wanted) else { continue };
        let most = Limit { soft: soft.min(now.hard), hard: now.hard };
        let name = sched::RESOURCES.get(resource as usize).unwrap_or(&"?");
        warnings.push(match sched::set_limit(pid, resource, most) {
            Ok(()) if most.soft == soft => {
                format!("{name} can be raised there to {} only, instead of {}: {error}", shown(most.hard), shown(hard))
            }
            Ok(()) => format!("{name} is {} there instead of {}: {error}", shown(most.soft), shown(soft)),
            Err(_) => format!("{name} could not be set to {}/{} there: {error}", shown(soft), shown(hard)),
        });
    }
    warnings
}

/// Adds the call that lowers what the first pass has left alone. It fails where that has found that it must be left as it is.
pub fn restore_queued_signals(image: &Limits, batch: &mut Batch) {
    if let Some((soft, hard)) = image.0.get(QUEUED_SIGNALS as usize) {
        let limit = batch.bytes(&[soft.to_le_bytes(), hard.to_le_bytes()].concat());
        batch.call(
            libc::SYS_prlimit64,
            [0.into(), i64::from(QUEUED_SIGNALS).cast_unsigned().into(), limit.into(), 0.into()],
        );
    }
}

fn shown(limit: u64) -> String {
    if limit == UNLIMITED { "unlimited".into() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn used_cpu_time_is_taken_off_its_limit() {
        let taken = |limit: (u64, u64), millis: u64| {
            let mut limits = Limits([(5, 6); 16]);
            limits.0[libc::RLIMIT_CPU as usize] = limit;
            let warning = limits.take_off_cpu_time(|| Ok(Duration::from_millis(millis))).unwrap();
            assert_eq!(limits.0[1..], [(5, 6); 15]);
            (limits.0[0], warning.is_some())
        };
        assert_eq!(taken((30, 40), 99), ((30, 40), false));
        assert_eq!(taken((30, 40), 100), ((29, 39), true));
        assert_eq!(taken((30, UNLIMITED), 12_345), ((17, UNLIMITED), true));
        assert_eq!(taken((3, 40), 9_000), ((1, 31), true));
        assert_eq!(taken(NO_LIMIT, 9_000), (NO_LIMIT, false));
    }

    #[test]
    fn what_may_not_be_raised_is_a_warning() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let limits =
            || [0u32; 16].iter().enumerate().map(|(n, _)| sched::limit(pid, n as u32).unwrap()).collect::<Vec<_>>();
        let files = libc::RLIMIT_NOFILE as usize;
        sched::set_limit(pid, libc::RLIMIT_NOFILE, Limit { soft: 50, hard: 60 }).unwrap();
        let mut wanted = Limits(std::array::from_fn(|n| (limits()[n].soft, limits()[n].hard)));
        assert_eq!(restore(&wanted, pid), Vec::<String>::new());
        // Lower, and raised as far as it may be.
        wanted.0[files] = (60, 60);
        wanted.0[libc::RLIMIT_CORE as usize] = (0, 0);
        assert_eq!(restore(&wanted, pid), Vec::<String>::new());
        assert_eq!(limits()[files], Limit { soft: 60, hard: 60 });
        assert_eq!(limits()[libc::RLIMIT_CORE as usize], Limit { soft: 0, hard: 0 });
        // Higher than that takes CAP_SYS_RESOURCE.
        wanted.0[files] = (55, 61);
        let warnings = restore(&wanted, pid);
        let now = limits()[files];
        match warnings.as_slice() {
            [] => assert_eq!(now, Limit { soft: 55, hard: 61 }),
            [one] => {
                assert!(one.starts_with("RLIMIT_NOFILE can be raised there to 60 only, instead of 61"), "{one}");
                assert_eq!(now, Limit { soft: 55, hard: 60 });
                wanted.0[files] = (UNLIMITED, UNLIMITED);
                let warnings = restore(&wanted, pid);
                assert!(warnings[0].starts_with("RLIMIT_NOFILE is 60 there instead of unlimited"), "{warnings:?}");
                assert_eq!(limits()[files], Limit { soft: 60, hard: 60 });
            }
            more => panic!("{more:?}"),
        }
        // Not yet.
        let before = limits()[QUEUED_SIGNALS as usize];
        wanted.0[files] = (60, 60);
        wanted.0[QUEUED_SIGNALS as usize] = (2, 3);
        assert_eq!(restore(&wanted, pid), Vec::<String>::new());
        assert_eq!(limits()[QUEUED_SIGNALS as usize], before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
