//! Scheduling: policy and priority, nice value, the CPUs that it may use, I/O priority. Set from outside, by thread ID.
//! CPUs that the destination lacks are cut off; when none is left it may use all.

use bincode::{Decode, Encode};
use migrate_linux::remote::{Batch, Results};
use migrate_linux::sched;
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, TaskKind};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SchedulingImage {
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// CPU mask, bit n of byte n/8.
    affinity: Vec<u8>,
}

/// The kind.
pub enum Scheduling {}

impl TaskKind for Scheduling {
    const NAME: &'static str = "scheduling";
    const MOVES: &'static str = "of each thread: policy, priority, nice value, I/O priority, CPUs (those that the destination lacks are cut off)";
    type Image = SchedulingImage;
    type Asked = ();

    fn ask(_batch: &mut Batch) {}

    fn answer(_asked: &(), _results: &Results, from: &FrozenThread) -> Result<SchedulingImage> {
        read(from.stopped.tid())
    }

    fn recorded(_record: &ThreadRecord, stopped: &Stopped) -> Option<SchedulingImage> {
        read(stopped.tid()).ok()
    }

    fn restore(_image: &SchedulingImage, _batch: &mut Batch) {}

    fn restore_outside(image: &SchedulingImage, tid: i32) -> Result<()> {
        let fail = |source| Error::io(format!("set the scheduling of new thread {tid}"), source);
        let now = sched::scheduling(tid).map_err(fail)?;
        let wanted = sched::Scheduling {
            policy: image.policy,
            flags: image.flags,
            nice: image.nice,
            priority: image.priority,
            ..now
        };
        if wanted != now {
            sched::set_scheduling(tid, &wanted).map_err(fail)?;
        }
        if sched::affinity(tid).map_err(fail)? != image.affinity {
            // EINVAL: none of these CPUs exists here. Then any will do.
            match sched::set_affinity(tid, &image.affinity) {
                Err(e) if e.raw_os_error() == Some(migrate_linux::libc::EINVAL) => {}
                other => other.map_err(fail)?,
            }
        }
        Ok(())
    }
}

fn read(tid: i32) -> Result<SchedulingImage> {
    let fail = |source| Error::io(format!("read the scheduling of thread {tid}"), source);
    let attributes = sched::scheduling(tid).map_err(fail)?;
    let affinity = sched::affinity(tid).map_err(fail)?;
    Ok(SchedulingImage {
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        affinity,
    })
}
