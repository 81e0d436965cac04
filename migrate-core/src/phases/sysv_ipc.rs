//! System V semaphores and message queues that a process uses. They are a host's: whoever knows the ID may use one, and nobody has it
//! open. So they stay, and a process that uses one would be told by its next call that there is none.
//!
//! Nothing says who will use one. What the kernel notes is who was the last to do so, and what a thread waits for in this moment.

use std::time::{SystemTime, UNIX_EPOCH};

use migrate_linux::sysv_sem::last_user;
use migrate_linux::waits::boot_time;

use crate::error::{Doing, Result};
use crate::proc::listing::read_tids;
use crate::proc::stat::read_stat;
use crate::proc::syscall::read_syscall;
use crate::proc::sysvipc::{read_queues, read_semaphores};
use crate::resources::thread::unmovable;

/// So many semaphores of a set are asked for; the others of a larger one are used like these.
const MOST: u32 = 256;
/// Of `starttime` in /proc/PID/stat (proc_pid_stat(5): sysconf(_SC_CLK_TCK), which is 100 on x86_64).
const TICKS_PER_SECOND: u64 = 100;

/// Of more threads than this, the freeze will see what they wait for.
const FEW: usize = 64;

/// What of them the threads of a process wait for, as reasons why it cannot move.
pub fn waited_for_by(pid: i32) -> Vec<String> {
    let tids = read_tids(pid).unwrap_or_default().into_iter().take(FEW);
    let waits = |tid| unmovable::waits_for_hosts_own(read_syscall(pid, tid).ok()??.call, tid);
    tids.filter_map(waits).collect()
}

/// What of them a process has used last, as reasons why it cannot move.
pub fn used_by(pid: i32) -> Result<Vec<String>> {
    let (sets, queues) = (
        read_semaphores().doing(|| "list System V semaphores".into())?,
        read_queues().doing(|| "list System V message queues".into())?,
    );
    if sets.is_empty() && queues.is_empty() {
        return Ok(Vec::new());
    }
    let start = started_at(pid)?;
    let mut reasons = Vec::new();
    for set in sets.iter().filter(|set| set.used_at >= start) {
        let its = |semaphore: u32| last_user(set.id, semaphore).is_ok_and(|user| user == pid);
        if (0..set.count.min(MOST)).any(its) {
            reasons.push(format!(
                "it has used System V semaphore set {} (key {:#x}), which is this host's and stays; if nobody needs that any more, remove it: ipcrm -s {}",
                set.id, set.key, set.id
            ));
        }
    }
    for queue in queues {
        let sent = queue.sender == pid && queue.sent_at >= start;
        if sent || queue.receiver == pid && queue.received_at >= start {
            reasons.push(format!(
                "it has used System V message queue {} (key {:#x}), which is this host's and stays; if nobody needs that any more, remove it: ipcrm -q {}",
                queue.id, queue.key, queue.id
            ));
        }
    }
    Ok(reasons)
}

/// When a process began, seconds of CLOCK_REALTIME, or a second earlier: what another of the same number has used before is not its own.
fn started_at(pid: i32) -> Result<i64> {
    let ticks = read_stat(pid).doing(|| format!("read process {pid}"))?.starttime;
    let age = (boot_time() / 1_000_000_000).saturating_sub(ticks / TICKS_PER_SECOND);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(now.saturating_sub(age).saturating_sub(1) as i64)
}
