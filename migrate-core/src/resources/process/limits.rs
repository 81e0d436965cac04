//! The sixteen resource limits, soft and hard (getrlimit(2)). Set from outside, before the process changes its user: a root
//! without CAP_SYS_RESOURCE may still set those of its own processes, but raise no hard limit. What may not be is a warning.
//!
//! That of queued signals, when it is to be lower, is set by the process itself once its signals are queued: a program may lower it
//! below what it has in the queue.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::Batch;
use migrate_linux::sched::{self, Limit, UNLIMITED};

use crate::resources::Row;

/// What of it moves.
pub const ROW: Row =
    ("resource limits", "all sixteen, soft and hard; a hard limit that may not be raised there is a warning");

/// What travels; see [`UNLIMITED`]. In the order of RLIMIT numbers, soft and hard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Limits(pub [(u64, u64); 16]);

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
