//! The sixteen resource limits, soft and hard (getrlimit(2)). Set from outside, before the process changes its user: a root
//! without CAP_SYS_RESOURCE may still set those of its own processes, but raise no hard limit. What may not be is a warning.

use bincode::{Decode, Encode};
use migrate_linux::sched::{self, Limit};

use crate::resources::Row;

/// What of it moves.
pub const ROW: Row =
    ("resource limits", "all sixteen, soft and hard; a hard limit that may not be raised there is a warning");

/// What travels: soft and hard, in the order of RLIMIT numbers; `u64::MAX` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Limits(pub [(u64, u64); 16]);

/// Sets them. Returns what could not be set, in words.
pub fn restore(image: &Limits, pid: i32) -> Vec<String> {
    let mut warnings = Vec::new();
    for (resource, &(soft, hard)) in image.0.iter().enumerate() {
        let resource = resource as u32;
        let Ok(now) = sched::limit(pid, resource) else { continue };
        let error = match sched::set_limit(pid, resource, Limit { soft, hard }) {
            Ok(()) => continue,
            Err(error) => error,
        };
        let lower = sched::set_limit(pid, resource, Limit { soft: soft.min(now.hard), hard: now.hard });
        let name = sched::RESOURCES.get(resource as usize).unwrap_or(&"?");
        warnings.push(match lower {
            Ok(()) => format!("{name} is {} at the destination instead of {hard}: {error}", now.hard),
            Err(_) => format!("{name} could not be set to {soft}/{hard}: {error}"),
        });
    }
    warnings
}
