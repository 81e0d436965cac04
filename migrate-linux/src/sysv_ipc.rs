//! What the three kinds of System V IPC have in common (sysvipc(7)): an ID, a key, an owner and permissions.

use std::io;

/// A kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Segments of shared memory.
    Memory,
    /// Sets of semaphores.
    Semaphores,
    /// Message queues.
    Messages,
}

/// What one is called, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// The key; 0: it was made with IPC_PRIVATE, or is shared memory that has been removed.
    pub key: i32,
    /// User and group that have it.
    pub owner: (u32, u32),
    /// User and group that made it, which may do what the owner may.
    pub creator: (u32, u32),
    /// Permissions; of shared memory its flags, too.
    pub mode: u32,
}

impl From<libc::ipc_perm> for Permissions {
    fn from(told: libc::ipc_perm) -> Permissions {
        Permissions {
            key: told.__key,
            owner: (told.uid, told.gid),
            creator: (told.cuid, told.cgid),
            mode: u32::from(told.mode),
        }
    }
}

/// What `*ctl` with IPC_SET takes of them: owner, and the nine lower bits of the mode.
pub(crate) fn put(told: &mut libc::ipc_perm, mode: u32, owner: (u32, u32)) {
    (told.uid, told.gid) = owner;
    told.mode = (mode & 0o777) as u16;
}

impl Kind {
    /// Has the kernel give the one that is made next in this IPC namespace, by whomever, this ID, if it is free.
    ///
    /// # Errors
    /// Those of writing /proc/sys/kernel/{shm,sem,msg}_next_id: `ENOENT` without CONFIG_CHECKPOINT_RESTORE, `EPERM` without
    /// CAP_CHECKPOINT_RESTORE.
    pub fn set_next_id(self, id: i32) -> io::Result<()> {
        let name = match self {
            Kind::Memory => "shm",
            Kind::Semaphores => "sem",
            Kind::Messages => "msg",
        };
        std::fs::write(format!("/proc/sys/kernel/{name}_next_id"), id.to_string())
    }

    /// The ID of the one that has this key here. None: there is none. `key`: not 0.
    ///
    /// # Errors
    /// Those of shmget(2), semget(2) and msgget(2), `ENOSYS` of a kernel without System V IPC among them.
    pub fn find(self, key: i32) -> io::Result<Option<i32>> {
        // SAFETY: these calls take numbers alone.
        let found = unsafe {
            match self {
                Kind::Memory => libc::shmget(key, 0, 0),
                Kind::Semaphores => libc::semget(key, 0, 0),
                Kind::Messages => libc::msgget(key, 0),
            }
        };
        match (found, io::Error::last_os_error()) {
            (-1, error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            (-1, error) => Err(error),
            (id, _) => Ok(Some(id)),
        }
    }

    /// Whether there is one of this ID here.
    pub fn exists(self, id: i32) -> bool {
        let told = match self {
            Kind::Memory => crate::sysv_shm::stat(id).map(drop),
            Kind::Semaphores => crate::sysv_sem::stat(id).map(drop),
            Kind::Messages => crate::sysv_msg::stat(id).map(drop),
        };
        !told.is_err_and(|why| matches!(why.raw_os_error(), Some(libc::EINVAL | libc::EIDRM)))
    }

    /// Removes one; its key is free at once. Shared memory that is attached goes with the last attachment. Whoever waits for one of the
    /// others is told so (`EIDRM`).
    ///
    /// # Errors
    /// Those of shmctl(2), semctl(2) and msgctl(2).
    pub fn remove(self, id: i32) -> io::Result<()> {
        // SAFETY: this command reads and writes no memory.
        let removed = unsafe {
            match self {
                Kind::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
                Kind::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
                Kind::Messages => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            }
        };
        if removed == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
