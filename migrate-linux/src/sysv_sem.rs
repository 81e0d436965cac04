//! Sets of System V semaphores (semctl(2)): what they are, and who has used them.

use std::io;

use crate::sysv_ipc::{Permissions, put};

/// What the kernel tells of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Key, owner, permissions.
    pub permissions: Permissions,
    /// How many semaphores it has.
    pub count: u32,
    /// When a semop(2) on it was last done, seconds of CLOCK_REALTIME; 0: never.
    pub used_at: i64,
}

/// One semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Semaphore {
    /// Its value, 0 to 32767.
    pub value: u16,
    /// Who did the last semop(2) on it, or set it, as this process sees the PID; 0: nobody, or nobody that is seen from here.
    pub user: i32,
    /// How many threads wait for it: until it grows, and until it is zero.
    pub waiting: u32,
}

/// Looks at a set.
///
/// # Errors
/// `EINVAL` or `EIDRM` for an ID that is none, `EACCES`.
pub fn stat(set: i32) -> io::Result<Set> {
    let told = control_stat(set)?;
    let count = u32::try_from(told.sem_nsems).unwrap_or(u32::MAX);
    Ok(Set { permissions: told.sem_perm.into(), count, used_at: told.sem_otime })
}

/// Looks at a semaphore of a set.
///
/// # Errors
/// `EINVAL` or `EIDRM` when there is no such set, `EINVAL` beyond its end, `EACCES`.
pub fn look(set: i32, semaphore: u32) -> io::Result<Semaphore> {
    let ask = |what| number(set, semaphore, what);
    let waiting = ask(libc::GETNCNT)?.saturating_add(ask(libc::GETZCNT)?);
    let value = ask(libc::GETVAL)?.clamp(0, i16::MAX.into()) as u16;
    Ok(Semaphore { value, user: ask(libc::GETPID)?, waiting: waiting.max(0) as u32 })
}

/// Who used a semaphore last, as [`Semaphore::user`] has it.
///
/// # Errors
/// As [`look`].
pub fn last_user(set: i32, semaphore: u32) -> io::Result<i32> {
    number(set, semaphore, libc::GETPID)
}

fn number(set: i32, semaphore: u32, what: i32) -> io::Result<i32> {
    let semaphore = i32::try_from(semaphore).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: GETVAL, GETPID, GETNCNT and GETZCNT read and write no memory.
    match unsafe { libc::semctl(set, semaphore, what) } {
        -1 => Err(io::Error::last_os_error()),
        number => Ok(number),
    }
}

/// Sets owner and permissions (the nine lower bits) of a set.
///
/// # Errors
/// Those of semctl(2).
pub fn set(set: i32, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let mut told = control_stat(set)?;
    put(&mut told.sem_perm, mode, owner);
    control(set, libc::IPC_SET, &mut told)
}

/// How many sets there are in this IPC namespace.
///
/// # Errors
/// `ENOSYS` of a kernel without them.
pub fn count_all() -> io::Result<u32> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut told: libc::seminfo = unsafe { std::mem::zeroed() };
    // SAFETY: SEM_INFO writes one struct seminfo.
    match unsafe { libc::semctl(0, 0, libc::SEM_INFO, &raw mut told) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(told.semusz.max(0) as u32),
    }
}

fn control_stat(set: i32) -> io::Result<libc::semid_ds> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut told = unsafe { std::mem::zeroed() };
    control(set, libc::IPC_STAT, &mut told)?;
    Ok(told)
}

fn control(set: i32, command: i32, told: &mut libc::semid_ds) -> io::Result<()> {
    // SAFETY: each of the commands used here reads or writes one struct semid_ds.
    if unsafe { libc::semctl(set, 0, command, std::ptr::from_mut(told)) } == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `struct sembuf` of semop(2): one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Which semaphore.
    pub semaphore: u16,
    /// What is added; 0: it must be zero.
    pub change: i16,
    /// SEM_UNDO, IPC_NOWAIT.
    pub flags: i16,
}

/// As bytes, for a remote call.
pub fn operations(all: &[Operation]) -> Vec<u8> {
    let words = |one: &Operation| [one.semaphore, one.change as u16, one.flags as u16].map(u16::to_ne_bytes);
    all.iter().flat_map(words).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysv_ipc::Kind;

    #[test]
    fn operations_are_laid_out_as_the_kernel_has_them() {
        let bytes = operations(&[Operation { semaphore: 1, change: -2, flags: 0x1000 }; 2]);
        assert_eq!(bytes.len(), 2 * size_of::<libc::sembuf>());
        let expected = libc::sembuf { sem_num: 1, sem_op: -2, sem_flg: 0x1000 };
        // SAFETY: six bytes, read as three integers.
        let read = unsafe { bytes.as_ptr().add(6).cast::<libc::sembuf>().read_unaligned() };
        assert_eq!((read.sem_num, read.sem_op, read.sem_flg), (expected.sem_num, expected.sem_op, expected.sem_flg));
    }

    #[test]
    fn whoever_has_used_one_is_told() {
        // SAFETY: reads and writes no memory.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 2, 0o600) };
        if set < 0 {
            println!("SKIPPED whoever_has_used_one_is_told: semget: {}", io::Error::last_os_error());
            return;
        }
        let unused = stat(set).unwrap();
        let mut up = libc::sembuf { sem_num: 1, sem_op: 3, sem_flg: 0 };
        // SAFETY: one struct sembuf, as said.
        let used = unsafe { libc::semop(set, &raw mut up, 1) };
        let users = [last_user(set, 0), last_user(set, 1), last_user(set, 2)].map(Result::ok);
        let (looked, all) = (look(set, 1).unwrap(), count_all().unwrap());
        let changed = super::set(set, 0o642, (7, 8)).and_then(|()| stat(set));
        Kind::Semaphores.remove(set).unwrap();
        assert_eq!((used, users), (0, [Some(0), Some(std::process::id() as i32), None]));
        assert_eq!(looked, Semaphore { value: 3, user: std::process::id() as i32, waiting: 0 });
        assert!(all >= 1 && unused.used_at == 0 && unused.count == 2);
        if nix::unistd::getuid().is_root() {
            let changed = changed.unwrap();
            assert_eq!((changed.permissions.owner, changed.permissions.mode), ((7, 8), 0o642));
            assert_eq!(changed.permissions.creator, unused.permissions.owner);
            assert_ne!(changed.used_at, 0);
        }
        assert!(!Kind::Semaphores.exists(set));
    }
}
