//! Scheduling: policy, priority, nice value, time slice, run time and period of deadline threads, utilisation clamps, the CPUs that it
//! may use, I/O priority. Set from outside, by thread ID.
//!
//! A thread that may use all CPUs of its host may use all of the other one too. CPUs that the destination lacks are cut off, which is
//! told; when none is left it may use all.

use bincode::{Decode, Encode};
use migrate_linux::remote::{Batch, Results};
use migrate_linux::sched::{self, Scheduling as Attributes};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, Outside, TaskKind};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SchedulingImage {
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Run time (of ordinary policies: the time slice), deadline and period, in ns.
    times: [u64; 3],
    /// Least and most utilisation.
    clamps: [u32; 2],
    /// CPU mask, bit n of byte n/8.
    affinity: Vec<u8>,
    /// Class and level; 0: none.
    io_priority: i32,
}

/// What a thread has on a host when nothing was chosen for it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Defaults {
    /// The CPUs that there are, as a mask. Empty: unknown.
    pub cpus: Vec<u8>,
    /// The time slice of ordinary policies, in ns. 0: unknown, or always the same (before Linux 6.12).
    pub slice: u64,
}

impl Defaults {
    /// Those of this host.
    pub fn of_this_host() -> Defaults {
        let own = sched::scheduling(0).unwrap_or_default();
        Defaults {
            cpus: sched::online_cpus().unwrap_or_default(),
            slice: if is_ordinary(own.policy) { own.runtime } else { 0 },
        }
    }
}

/// The kind.
pub enum Scheduling {}

const DEADLINE: u32 = 6;

/// With a time slice: SCHED_OTHER, SCHED_BATCH, SCHED_IDLE.
fn is_ordinary(policy: u32) -> bool {
    matches!(policy, 0 | 3 | 5)
}

impl TaskKind for Scheduling {
    const NAME: &'static str = "scheduling";
    const MOVES: &'static str = "of each thread: policy, priority, nice value, time slice, deadline parameters, utilisation clamps, I/O priority, CPUs; those that the destination lacks are cut off, with a warning";
    const SETTABLE_AGAIN: bool = true;
    type Image = SchedulingImage;
    type Asked = ();

    fn ask(_batch: &mut Batch) {}

    fn answer(_asked: &(), _results: &Results, from: &FrozenThread) -> Result<SchedulingImage> {
        read(from.stopped.tid())
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<SchedulingImage> {
        read(record.seen_tid).ok()
    }

    fn restore(_image: &SchedulingImage, _batch: &mut Batch) {}

    fn restore_outside(image: &SchedulingImage, tid: i32, outside: &mut Outside) -> Result<()> {
        let fail = |source| Error::io(format!("set the scheduling of new thread {tid}"), source);
        let (now, clamps) = sched::scheduling_and_clamps(tid).map_err(fail)?;
        let wanted = wanted(image, &outside.origin, &now);
        if wanted != now {
            sched::set_scheduling(tid, &wanted).map_err(fail)?;
        }
        // Another policy has other ones by itself.
        if image.clamps != [0, 0] && (image.clamps != clamps || wanted != now) {
            sched::set_utilisation_clamps(tid, image.clamps).map_err(fail)?;
        }
        if image.io_priority != sched::io_priority(tid).map_err(fail)? {
            sched::set_io_priority(tid, image.io_priority).map_err(fail)?;
        }
        let now = sched::affinity(tid).map_err(fail)?;
        let (cpus, lost) = cut(&image.affinity, &outside.origin.cpus, &outside.here.cpus);
        if !same(&cpus, &now) {
            sched::set_affinity(tid, &cpus).map_err(fail)?;
        }
        if lost {
            let (was, is) = (sched::cpu_list(&image.affinity), sched::cpu_list(&cpus));
            outside.warn(format!("threads that were bound to CPUs {was} may use {is} there: it has no others"));
        }
        Ok(())
    }
}

/// A time slice that was not chosen stays whatever it is here.
fn wanted(image: &SchedulingImage, origin: &Defaults, now: &Attributes) -> Attributes {
    let chosen = !is_ordinary(image.policy) || image.times[0] != origin.slice;
    let usual = if now.policy == image.policy { now.runtime } else { 0 };
    Attributes {
        policy: image.policy,
        flags: image.flags,
        nice: image.nice,
        priority: image.priority,
        runtime: if chosen { image.times[0] } else { usual },
        deadline: image.times[1],
        period: image.times[2],
    }
}

/// The CPUs that a thread may use here, and whether it has lost one.
fn cut(wanted: &[u8], all_there: &[u8], all_here: &[u8]) -> (Vec<u8>, bool) {
    if same(wanted, all_there) || all_here.is_empty() {
        return (if all_here.is_empty() { wanted } else { all_here }.to_vec(), false);
    }
    let left: Vec<u8> = wanted.iter().zip(all_here).map(|(a, b)| a & b).collect();
    let lost = !same(&left, wanted);
    (if left.iter().all(|byte| *byte == 0) { all_here.to_vec() } else { left }, lost)
}

/// Masks of different lengths may be of the same CPUs.
fn same(a: &[u8], b: &[u8]) -> bool {
    let trimmed = |mask: &[u8]| mask.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    a.get(..trimmed(a)) == b.get(..trimmed(b))
}

/// That of a thread, as this agent sees its ID; also of one that has ended and is still there.
///
/// # Errors
/// There is no such thread.
pub fn read(tid: i32) -> Result<SchedulingImage> {
    let fail = |source| Error::io(format!("read the scheduling of thread {tid}"), source);
    let (attributes, clamps) = sched::scheduling_and_clamps(tid).map_err(fail)?;
    let timed = attributes.policy == DEADLINE || is_ordinary(attributes.policy);
    Ok(SchedulingImage {
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        times: if timed { [attributes.runtime, attributes.deadline, attributes.period] } else { [0; 3] },
        clamps,
        affinity: sched::affinity(tid).map_err(fail)?,
        io_priority: sched::io_priority(tid).map_err(fail)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_may_use_all_cpus_may_use_all_here() {
        assert_eq!(cut(&[0b11], &[0b11, 0], &[0xff]), (vec![0xff], false));
        assert_eq!(cut(&[0b11], &[], &[]), (vec![0b11], false));
    }

    #[test]
    fn cpus_that_are_not_here_are_cut_off() {
        assert_eq!(cut(&[0b0101], &[0xff], &[0b1111]), (vec![0b0101], false));
        assert_eq!(cut(&[0b0101], &[0xff], &[0b0011]), (vec![0b0001], true));
        assert_eq!(cut(&[0b0001, 1], &[0xff, 0xff], &[0b0011]), (vec![0b0001], true));
        assert_eq!(cut(&[0b1100], &[0xff], &[0b0011]), (vec![0b0011], true));
    }

    #[test]
    fn a_time_slice_goes_along_only_if_it_was_chosen() {
        let origin = Defaults { cpus: vec![1], slice: 3_000_000 };
        let image = |policy, slice| SchedulingImage {
            policy,
            flags: 0,
            nice: 3,
            priority: 0,
            times: [slice, 0, 0],
            clamps: [0, 0],
            affinity: vec![1],
            io_priority: 0,
        };
        let here = Attributes { runtime: 1_400_000, ..Attributes::default() };
        assert_eq!(wanted(&image(0, 3_000_000), &origin, &here).runtime, 1_400_000);
        assert_eq!(wanted(&image(0, 10_000_000), &origin, &here).runtime, 10_000_000);
        assert_eq!(wanted(&image(6, 3_000_000), &origin, &here).runtime, 3_000_000);
        assert_eq!(wanted(&image(3, 3_000_000), &origin, &here).runtime, 0, "the host's own");
    }
}
