//! System V semaphores and message queues as they travel; shared memory is part of the address space.

use bincode::{Decode, Encode};

use crate::resources::process::message_queues::QueueImage;
use crate::resources::process::semaphores::SetImage;
use crate::resources::process::sysv_ipc::Made;

/// Those that a process has, as far as they can be made before it is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Announced {
    /// The IPC namespace that they are in: the inode of /proc/PID/ns/ipc. It says something on that kernel alone.
    pub namespace: u64,
    /// Sets of semaphores, and how many each has.
    pub sets: Vec<(Made, u32)>,
    /// Message queues.
    pub queues: Vec<Made>,
}

/// What they are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Images {
    /// Sets of semaphores.
    pub sets: Vec<SetImage>,
    /// Message queues.
    pub queues: Vec<QueueImage>,
}

impl Announced {
    /// None, in this one.
    pub fn of_this_namespace() -> Announced {
        use std::os::unix::fs::MetadataExt;
        let namespace = std::fs::metadata("/proc/self/ns/ipc").map_or(0, |file| file.ino());
        Announced { namespace, ..Announced::default() }
    }
}
