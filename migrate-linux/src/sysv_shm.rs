//! Segments of System V shared memory (sysvipc(7), shmctl(2)).

use std::fs::File;
use std::io;
use std::ptr;

use crate::map_files::open_mapped;
use crate::pagemap::PAGE_SIZE;
use crate::sysv_ipc::{Permissions, put};

/// In the mode of a segment's permissions: it goes when the last attachment does (linux/shm.h).
pub const DEST: u32 = 0o1000;
/// In the mode of a segment's permissions: SHM_LOCK holds it in memory.
pub const LOCKED: u32 = 0o2000;

/// What the kernel tells of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Key, owner, permissions; `DEST` and `LOCKED` in the mode.
    pub permissions: Permissions,
    /// Bytes.
    pub size: u64,
    /// Who made it, as this process sees the PID. 0: that one is not seen from here.
    pub creator: i32,
    /// Mappings, of all processes.
    pub attached: u64,
}

/// Looks at one.
///
/// # Errors
/// `EINVAL` or `EIDRM` for an ID that is none, `EACCES`.
pub fn stat(id: i32) -> io::Result<Segment> {
    let told = control_stat(id)?;
    Ok(Segment {
        permissions: told.shm_perm.into(),
        size: told.shm_segsz as u64,
        creator: told.shm_cpid,
        attached: told.shm_nattch,
    })
}

/// Opens what is in one, to be read and written as a file.
///
/// # Errors
/// Those of shmat(2) and [`open_mapped`].
pub fn open(id: i32, size: u64) -> io::Result<File> {
    // SAFETY: the kernel chooses the place, so nothing is replaced.
    let at = unsafe { libc::shmat(id, ptr::null(), 0) };
    if at as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    let start = at as u64;
    let opened = open_mapped(std::process::id() as i32, start, start + size.next_multiple_of(PAGE_SIZE), true);
    // SAFETY: the mapping made above, which nothing refers to.
    if unsafe { libc::shmdt(at) } == -1 {
        return Err(io::Error::last_os_error());
    }
    opened
}

/// Sets owner and permissions (the nine lower bits), and locks it if `mode` has `LOCKED`.
///
/// # Errors
/// Those of shmctl(2).
pub fn set(id: i32, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let mut told = control_stat(id)?;
    let was_locked = u32::from(told.shm_perm.mode) & LOCKED != 0;
    put(&mut told.shm_perm, mode, owner);
    control(id, libc::IPC_SET, &mut told)?;
    match (mode & LOCKED != 0, was_locked) {
        (true, false) => control(id, libc::SHM_LOCK, &mut told),
        (false, true) => control(id, libc::SHM_UNLOCK, &mut told),
        _ => Ok(()),
    }
}

fn control_stat(id: i32) -> io::Result<libc::shmid_ds> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut told = unsafe { std::mem::zeroed() };
    control(id, libc::IPC_STAT, &mut told)?;
    Ok(told)
}

fn control(id: i32, command: i32, told: &mut libc::shmid_ds) -> io::Result<()> {
    // SAFETY: each of the commands used here reads or writes at most one struct shmid_ds.
    if unsafe { libc::shmctl(id, command, told) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    use crate::sysv_ipc::Kind;

    #[test]
    fn one_is_made_with_the_id_that_is_wanted_and_filled_as_a_file() {
        if !nix::unistd::getuid().is_root() {
            return println!("SKIPPED one_is_made_with_the_id_that_is_wanted_and_filled_as_a_file: not root");
        }
        let wanted = 77 + (3 << 15);
        Kind::Memory.set_next_id(wanted).unwrap();
        // SAFETY: takes numbers alone.
        let id = unsafe { libc::shmget(0, 5000, libc::IPC_CREAT | 0o600) };
        assert_eq!(id, wanted);
        let file = open(id, 5000).unwrap();
        file.write_at(b"content", 4100).unwrap();
        set(id, 0o640 | LOCKED, (7, 8)).unwrap();
        let now = stat(id).unwrap();
        let Permissions { key, owner, mode, .. } = now.permissions;
        assert_eq!((key, now.size, mode, owner, now.attached), (0, 5000, 0o640 | LOCKED, (7, 8), 0));
        let mut read = [0; 7];
        open(id, 5000).unwrap().read_at(&mut read, 4100).unwrap();
        assert_eq!(&read, b"content");
        Kind::Memory.remove(id).unwrap();
        assert!(!Kind::Memory.exists(id));
    }
}
