//! Segments of System V shared memory that a process has attached: content, ID, key, size, creator, owner, permissions, SHM_LOCK, and that
//! one has been removed and goes with the last attachment. One that another process has attached does not move.
//!
//! The ID is what a program knows a segment by, so it must be free at the destination; there the new process itself makes it, as the user
//! that made it first, and counts as the process that made it. Times are lost. A segment that the process made is removed here once it runs there.

use std::collections::HashMap;
use std::fs::File;

use migrate_linux::remote::{Batch, Results};
use migrate_linux::sysv_ipc::{Kind, Permissions};
use migrate_linux::sysv_shm::{self, DEST, Segment};
use nix::libc;

use crate::error::{Doing, Error, Result};
use crate::image::layout::{Backing, EXEC, Form, Layout, ObjectState, PAGE, Vma};
use crate::memory::unnamed::Unnamed;
use crate::proc::smaps::VmFlags;
use crate::resources::Row;
use crate::resources::process::sysv_ipc::{Made, NewObject, name, removal};

/// What of it moves.
pub const ROW: Row = (
    "System V shared memory",
    "attached segments: content, ID, key, size, creator, owner, permissions, SHM_LOCK, removed ones; not what another process has attached too",
);

/// As /proc/PID/maps names one of this key.
const PREFIX: &[u8] = b"/SYSV";

/// Whether a mapping that is shown so may be one.
pub fn may_be_one(path: &[u8]) -> bool {
    path.starts_with(PREFIX)
}

/// The one of this ID, which maps shows at `path`.
pub fn form_of(path: &[u8], id: u64) -> std::io::Result<Form> {
    let name = path.strip_prefix(PREFIX).and_then(|name| std::str::from_utf8(name).ok());
    let key = name.and_then(|name| u32::from_str_radix(name.strip_suffix(" (deleted)").unwrap_or(name), 16).ok());
    let (Some(key), Ok(id)) = (key, i32::try_from(id)) else { return Err(std::io::ErrorKind::InvalidData.into()) };
    let told = sysv_shm::stat(id)?.permissions;
    let made = Made { id, key: key as i32, creator: told.creator };
    Ok(Form::SysV { made, removed: told.mode & DEST != 0 })
}

/// What it is besides its content.
pub fn state_of(object: u32, id: i32) -> std::io::Result<ObjectState> {
    let Segment { size, permissions: Permissions { mode, owner, .. }, .. } = sysv_shm::stat(id)?;
    Ok(ObjectState {
        id: object,
        size,
        mode: mode & !DEST,
        owner,
        accessed: (0, 0),
        modified: (0, 0),
        seals: 0,
        removed: mode & DEST != 0,
    })
}

/// Why those of a process cannot move, in words. `still`: it stands still.
pub fn obstacles(layout: &Layout, unnamed: &Unnamed, still: bool) -> Vec<String> {
    let mut obstacles = Vec::new();
    for object in &unnamed.objects {
        let Form::SysV { made: Made { id, .. }, .. } = object.form else { continue };
        // By where the whole of it begins: it may be attached several times.
        let mut pieces: HashMap<u64, u64> = HashMap::new();
        let mut count = 0;
        for vma in &layout.vmas {
            if let Backing::Object { object: it, offset } = vma.backing
                && it == object.id
            {
                *pieces.entry(vma.start.wrapping_sub(offset)).or_default() += vma.len();
                count += 1;
            }
        }
        let what = format!("System V shared memory segment {id}");
        if pieces.values().any(|length| *length != object.size.next_multiple_of(PAGE)) {
            obstacles
                .push(format!("{what}: a part of it has been unmapped or moved; let the program detach it (shmdt)"));
        }
        if still && count != 0 && !sysv_shm::stat(id).is_ok_and(|now| now.attached == count) {
            obstacles
                .push(format!("{what}: another process has attached it meanwhile, and stays; they cannot be parted"));
        }
    }
    obstacles
}

/// Removes those that the process, which has left this host, had made. Returns what stays, in words.
pub fn remove_left_behind(unnamed: &Unnamed, pid: i32) -> Vec<String> {
    let mut left = Vec::new();
    for (object, file) in unnamed.objects.iter().zip(&unnamed.files) {
        let Form::SysV { made: Made { id, key, .. }, .. } = object.form else { continue };
        let Ok(now) = sysv_shm::stat(id) else { continue };
        if file.is_none() || now.permissions.mode & DEST != 0 {
            continue;
        }
        let (what, remedy) = (name(Kind::Memory, id, key), removal(Kind::Memory, id));
        if now.creator != pid {
            left.push(format!("{what} stays here too, because it was made by process {}: {remedy}", now.creator));
        } else if let Err(error) = Kind::Memory.remove(id) {
            left.push(format!("{what} stays here too: {error}: {remedy}"));
        }
    }
    left
}

/// One that has been made for a new process. Dropped before that runs, it is removed.
#[derive(Debug)]
pub struct NewSegment {
    object: NewObject,
    size: u64,
}

impl NewSegment {
    /// Has the new process make it, by `run`. `removed`: its key may be another's by now. Also returns a way to its content.
    pub fn make(
        made: Made,
        removed: bool,
        size: u64,
        run: impl FnMut(&Batch) -> Result<Results>,
    ) -> Result<(NewSegment, File)> {
        let others =
            removed && made.key != libc::IPC_PRIVATE && Kind::Memory.find(made.key).is_ok_and(|id| id.is_some());
        let key = if others { libc::IPC_PRIVATE } else { made.key };
        let object = NewObject::make(Kind::Memory, Made { key, ..made }, size, run)?;
        let content = sysv_shm::open(made.id, size).doing(|| format!("open {}", name(Kind::Memory, made.id, key)))?;
        Ok((NewSegment { object, size }, content))
    }

    /// Has the new process attach it where the original has it. `offset`: of the mapping's beginning in it. Each attachment is made
    /// whole with the mapping that it begins with.
    pub fn attach(&self, vma: &Vma, offset: u64, batch: &mut Batch) {
        if offset == 0 {
            let flags =
                [(vma.flags & VmFlags::MAY_WRITE == 0, libc::SHM_RDONLY), (vma.protection & EXEC != 0, libc::SHM_EXEC)];
            let flags: i32 = flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum();
            batch.must(libc::SYS_shmat, [self.object.id().into(), vma.start.into(), flags.into()]);
        }
        batch.must(libc::SYS_mprotect, [vma.start.into(), vma.len().into(), u64::from(vma.protection).into()]);
    }

    /// Makes it what it is but for its content and its end. Err also: it has another size.
    pub fn set(&self, state: &ObjectState) -> Result<()> {
        if state.size != self.size {
            return Err(Error::Invalid(format!("a segment of {} bytes that has {}", self.size, state.size)));
        }
        let id = self.object.id();
        let set = sysv_shm::set(id, state.mode, state.owner);
        set.doing(|| format!("set owner and permissions of System V shared memory segment {id}"))
    }

    /// Removes it if the original has been: it goes with the last attachment.
    pub fn end(&mut self, state: &ObjectState) -> Result<()> {
        if state.removed { self.object.remove() } else { Ok(()) }
    }

    /// It is the new process's own.
    pub fn keep(self) {
        self.object.keep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_kernel_are_taken() {
        for wrong in [&b"/SYSV"[..], b"/SYSVx", b"/SYSV00000000x", b"/sysv00000000", b"/SYSV100000000"] {
            assert!(form_of(wrong, 1).is_err(), "{}", wrong.escape_ascii());
        }
        assert!(form_of(b"/SYSV00000000 (deleted)", 1 << 40).is_err());
    }
}
