//! What descriptions of every kind have alike: whom the kernel tells of events (F_SETOWN_EX: a thread, a process, a group), by which
//! signal (F_SETSIG), and whether it does (O_ASYNC).
//!
//! It is set in the new process when that has its credentials: these are what the kernel judges the signals by.
//!
//! A directory has an owner when F_NOTIFY was asked for. What for, nothing tells: so that is refused.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::owner::{self, Owner, OwnerKind};
use migrate_linux::remote::Batch;
use nix::unistd::{Pid, getpgid};

use super::{HeldFile, or_instead};
use crate::error::{Doing, Error, Result};
use crate::resources::{FrozenThread, Row};

/// What of it moves.
pub const ROW: Row = (
    "owner of a descriptor",
    "who gets which signal about it (F_SETOWN_EX, F_SETSIG, O_ASYNC); not F_NOTIFY of a directory",
);

/// Of one description, by a descriptor of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct OwnerImage {
    number: i32,
    /// F_OWNER_TID and so on, and the ID in its own PID namespace.
    owner: Option<(i32, i32)>,
    /// 0: SIGIO, without details.
    signal: i32,
    /// All status flags, if O_ASYNC is among them.
    flags: Option<i32>,
}

/// Why it cannot move, of a process that runs.
pub fn obstacle(held: &HeldFile) -> Option<String> {
    let view = &held.view;
    if view.info.flags as i32 & libc::O_PATH != 0 {
        return None;
    }
    let Owner { kind, id } = owner::owner(&held.duplicate).ok().flatten()?;
    if view.file_type() == nix::libc::S_IFDIR {
        return Some(format!(
            "fd {}: a directory whose changes are signalled (F_NOTIFY), which nothing tells the details of; let the program use inotify",
            view.number
        ));
    }
    let stays = match kind {
        OwnerKind::Thread => !std::path::Path::new(&format!("/proc/{}/task/{id}", held.process)).exists(),
        OwnerKind::Process => id != held.process,
        OwnerKind::Group => getpgid(Some(Pid::from_raw(held.process))).is_ok_and(|group| group.as_raw() != id),
    };
    stays.then(|| foreign(view.number, id))
}

fn foreign(number: i32, id: i32) -> String {
    format!("fd {number}: signals about it go to {id} (F_SETOWN), which stays; {}", or_instead(&[number]))
}

/// Of a description of the frozen process, all of whose `threads` are given; `group`: its process group, as this agent sees it and as
/// it does itself. None: there is nothing to set.
pub fn capture(held: &HeldFile, threads: &[FrozenThread], group: (i32, i32)) -> Result<Option<OwnerImage>> {
    let number = held.view.number;
    let flags = held.view.info.flags as i32;
    if flags & libc::O_PATH != 0 || held.view.unowned && flags & libc::O_ASYNC == 0 {
        return Ok(None);
    }
    let read = || Ok((owner::owner(&held.duplicate)?, owner::signal(&held.duplicate)?));
    let (owner, signal) = read().doing(|| format!("read the owner of descriptor {number}"))?;
    let flags = (flags & libc::O_ASYNC != 0).then_some(flags & (super::CHANGEABLE | libc::O_ASYNC));
    if owner.is_none() && signal == 0 && flags.is_none() {
        return Ok(None);
    }
    let inside = |Owner { kind, id }: Owner| {
        let id = match kind {
            OwnerKind::Thread => threads.iter().find(|t| t.stopped.tid() == id).map(|t| t.tid),
            OwnerKind::Process => threads.first().filter(|t| t.stopped.tid() == id).map(|t| t.pid),
            OwnerKind::Group => (group.0 == id).then_some(group.1),
        };
        id.map(|id| (kind as i32, id))
    };
    let owner = match owner {
        None => None,
        Some(owner) => Some(inside(owner).ok_or_else(|| Error::Refused(vec![foreign(number, owner.id)]))?),
    };
    Ok(Some(OwnerImage { number, owner, signal, flags }))
}

/// So many may be restored in one batch.
pub const AT_ONCE: usize = 500;

/// Adds the calls that set them.
pub fn restore(images: &[OwnerImage], batch: &mut Batch) {
    for image in images {
        let number = image.number;
        if image.signal != 0 {
            batch.must(libc::SYS_fcntl, [number.into(), owner::F_SETSIG.into(), image.signal.into()]);
        }
        if let Some((kind, id)) = image.owner {
            let bytes = batch.bytes(&[kind.to_le_bytes(), id.to_le_bytes()].concat());
            let arguments = [number.into(), owner::F_SETOWN_EX.into(), bytes.into()];
            match kind == OwnerKind::Group as i32 {
                // It is there only if it is the process's own.
                true => drop(batch.call(libc::SYS_fcntl, arguments)),
                false => drop(batch.must(libc::SYS_fcntl, arguments)),
            }
        }
        if let Some(flags) = image.flags {
            batch.must(libc::SYS_fcntl, [number.into(), libc::F_SETFL.into(), flags.into()]);
        }
    }
}
