//! What descriptions of every kind have alike: whom the kernel tells of events (F_SETOWN_EX: a thread, a process, a group), by which
//! signal (F_SETSIG), and whether it does (O_ASYNC).
//!
//! It is set in the new process when that has its credentials: these are what the kernel judges the signals by.
//!
//! A directory has an owner when the program has asked to be signalled of changes in it (F_NOTIFY): of which, and whether more than once,
//! only a probe tells. Where there is none, the process stays. What happens in it while the process stands still is not told over there.
//!
//! A process may be the owner by the ID of a thread that is not its first: by that of the one that calls F_NOTIFY or F_SETLEASE, and by any
//! with F_SETOWN. It gets the signals, but F_GETOWN_EX shows 0 (`f_getown_ex`, fs/fcntl.c), as of an owner that is gone; and that it is a
//! process: of what never had an owner it shows a thread. Only a probe tells the ID.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::notify_probe::NotifyRecord;
use migrate_linux::owner::{self, Owner, OwnerKind};
use migrate_linux::remote::Batch;
use nix::unistd::{Pid, getpgid};

use super::{FileView, HeldFile, or_instead};
use crate::error::{Doing, Error, Result};
use crate::resources::process::file_locks;
use crate::resources::{FrozenThread, Row};

/// What of it moves.
pub const ROW: Row = (
    "owner of a descriptor",
    "who gets which signal about it (F_SETOWN_EX, F_SETSIG, O_ASYNC), and of what in a directory (F_NOTIFY; with the eBPF probes, else the process stays)",
);

/// Of one description, by a descriptor of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct OwnerImage {
    number: i32,
    /// F_OWNER_TID and so on, and the ID in its own PID namespace; 0: nobody, any more.
    owner: Option<(i32, i32)>,
    /// 0: SIGIO, without details.
    signal: i32,
    /// All status flags, if O_ASYNC is among them.
    flags: Option<i32>,
    /// Of a directory: of what in it (F_NOTIFY).
    notify: Option<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Notify {
    /// By which descriptor the signals name it.
    number: i32,
    /// As F_NOTIFY takes them.
    events: i32,
    /// The process gets them.
    told: bool,
}

/// Whether it is a directory: the program may have asked to be signalled of changes in it.
pub fn may_notify(view: &FileView) -> bool {
    view.file_type() == nix::libc::S_IFDIR && view.info.flags as i32 & libc::O_PATH == 0
}

/// Whether it shows that it has, or once had.
pub fn notifies(held: &HeldFile) -> bool {
    let owned = || owner::owner(&held.duplicate).is_ok_and(|owner| owner != owner::NOBODY);
    may_notify(&held.view) && (owned() || owner::signal(&held.duplicate).is_ok_and(|signal| signal != 0))
}

/// Whether it may be that a process gets signals about it, and that this is not shown.
pub fn may_be_hidden(held: &HeldFile) -> bool {
    let is_path = held.view.info.flags as i32 & libc::O_PATH != 0;
    !is_path && owner::owner(&held.duplicate).is_ok_and(is_hidden) && !sets_owner(&held.view)
}

/// Whether it gets one again by F_NOTIFY or F_SETLEASE.
fn sets_owner(view: &FileView) -> bool {
    may_notify(view) || file_locks::lease(&view.info).is_some()
}

fn is_hidden(Owner { kind, id }: Owner) -> bool {
    (kind, id) == (OwnerKind::Process, 0)
}

/// Why such a one cannot move, that was none before the freeze.
pub fn set_just_now(number: i32) -> String {
    format!("fd {number}: who gets signals about it has only just been set (F_SETOWN); try again")
}

/// Why such a one cannot move. `why` there is nothing that tells.
pub fn untold(number: i32, why: &str) -> String {
    format!(
        "fd {number}: a directory whose changes are signalled (F_NOTIFY); of which of them, only an eBPF probe tells, and there is none: {why}; let the program use inotify"
    )
}

/// Why it cannot move, of a process that runs.
pub fn obstacle(held: &HeldFile) -> Option<String> {
    let view = &held.view;
    if view.info.flags as i32 & libc::O_PATH != 0 {
        return None;
    }
    let Owner { kind, id } = owner::owner(&held.duplicate).ok().filter(|owner| owner.id != 0)?;
    let stays = match kind {
        // A process is known by any of its threads: F_NOTIFY takes the one that calls.
        OwnerKind::Thread | OwnerKind::Process => {
            !std::path::Path::new(&format!("/proc/{}/task/{id}", held.process.pid)).exists()
        }
        OwnerKind::Group => getpgid(Some(Pid::from_raw(held.process.pid))).is_ok_and(|group| group.as_raw() != id),
    };
    stays.then(|| foreign(view.number, id))
}

fn foreign(number: i32, id: i32) -> String {
    format!("fd {number}: signals about it go to {id} (F_SETOWN), which stays; {}", or_instead(&[number]))
}

/// The frozen process, as the owners of its descriptors are looked at.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// All of its threads.
    pub threads: &'a [FrozenThread],
    /// Its process group, as this agent sees it and as it does itself.
    pub group: (i32, i32),
    /// What it wants to be signalled of in directories. None: nothing tells.
    pub notified: Option<&'a [NotifyRecord]>,
    /// The thread by which a process is named as the owner of one that [may be hidden](may_be_hidden). None: there is none.
    pub hidden: &'a dyn Fn(&HeldFile) -> Result<Option<i32>>,
}

/// Of a description of the frozen process, which has it as these `numbers`. None: there is nothing to set.
pub fn capture(held: &HeldFile, numbers: &[i32], around: &Around<'_>) -> Result<Option<OwnerImage>> {
    let number = held.view.number;
    let flags = held.view.info.flags as i32;
    let notify = notify(numbers, around.notified)?;
    let unowned = held.view.unowned && flags & libc::O_ASYNC == 0 && notify.is_none();
    if flags & libc::O_PATH != 0 || unowned {
        return Ok(None);
    }
    let read = || Ok((owner::owner(&held.duplicate)?, owner::signal(&held.duplicate)?));
    let (mut owner, signal) = read().doing(|| format!("read the owner of descriptor {number}"))?;
    if around.notified.is_none() && notifies(held) {
        return Err(Error::Refused(vec![untold(number, "it was not wanted when the move began; try again")]));
    }
    if is_hidden(owner) && !sets_owner(&held.view) {
        owner.id = (around.hidden)(held)?.unwrap_or(0);
    }
    let flags = (flags & libc::O_ASYNC != 0).then_some(flags & (super::CHANGEABLE | libc::O_ASYNC));
    let owner = (owner != owner::NOBODY && !(is_hidden(owner) && sets_owner(&held.view))).then_some(owner);
    if owner.is_none() && signal == 0 && flags.is_none() && notify.is_none() {
        return Ok(None);
    }
    // It may have ended.
    let first_thread = |id: i32| around.threads.first().filter(|_| id == held.process.pid).map(|t| t.pid);
    let inside = |Owner { kind, id }: Owner| {
        let id = match kind {
            _ if id == 0 => Some(0),
            OwnerKind::Thread | OwnerKind::Process => {
                around.threads.iter().find(|t| t.stopped.tid() == id).map(|t| t.tid).or(first_thread(id))
            }
            OwnerKind::Group => (around.group.0 == id).then_some(around.group.1),
        };
        id.map(|id| (kind as i32, id))
    };
    let owner = match owner {
        None => None,
        Some(owner) => Some(inside(owner).ok_or_else(|| Error::Refused(vec![foreign(number, owner.id)]))?),
    };
    Ok(Some(OwnerImage { number, owner, signal, flags, notify }))
}

/// What was asked for of a directory that has these numbers.
fn notify(numbers: &[i32], notified: Option<&[NotifyRecord]>) -> Result<Option<Notify>> {
    let asked = notified.into_iter().flatten().find(|record| numbers.contains(&record.number));
    let Some(&NotifyRecord { number, events, told }) = asked else { return Ok(None) };
    let events = events.ok_or_else(|| untold(number, "too many processes look at that directory"));
    events.map(|events| Some(Notify { number, events, told })).map_err(|why| Error::Refused(vec![why]))
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
        if let Some(Notify { number, events, told }) = image.notify {
            // The process becomes the owner.
            batch.must(libc::SYS_fcntl, [number.into(), libc::F_NOTIFY.into(), events.into()]);
            if !told {
                batch.must(libc::SYS_fcntl, [number.into(), libc::F_SETOWN.into(), 0.into()]);
            }
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
