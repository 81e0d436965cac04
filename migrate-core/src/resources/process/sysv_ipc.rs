//! What System V shared memory, semaphores and message queues have in common when they are made for a process that comes here: an ID
//! and a key that must be free, and who made them.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results};
use migrate_linux::sysv_ipc::{Kind, Permissions};
use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use crate::error::{Doing, Error, Result};

/// Another process may take the ID that the kernel was told to give next.
const TRIES: u32 = 3;

/// What one is made with, and what never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Made {
    /// Its ID.
    pub id: i32,
    /// Its key; 0: IPC_PRIVATE.
    pub key: i32,
    /// User and group that made it.
    pub creator: (u32, u32),
}

/// Who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Access {
    /// User and group that have it.
    pub owner: (u32, u32),
    /// The nine lower bits.
    pub mode: u32,
}

impl Made {
    /// As it is here.
    pub fn of(id: i32, told: Permissions) -> Made {
        Made { id, key: told.key, creator: told.creator }
    }
}

impl Access {
    /// As it is here.
    pub fn of(told: Permissions) -> Access {
        Access { owner: told.owner, mode: told.mode & 0o777 }
    }
}

/// What a kind is called, the letter of its options of ipcs(1) and ipcrm(1), and what limits how many there may be.
fn words(kind: Kind) -> (&'static str, char, &'static str) {
    match kind {
        Kind::Memory => ("System V shared memory segment", 'm', "kernel.shmmni, kernel.shmall"),
        Kind::Semaphores => ("System V semaphore set", 's', "kernel.sem"),
        Kind::Messages => ("System V message queue", 'q', "kernel.msgmni"),
    }
}

/// Its name in messages.
pub fn name(kind: Kind, id: i32, key: i32) -> String {
    format!("{} {id} (key {key:#x})", words(kind).0)
}

/// How to remove it.
pub fn removal(kind: Kind, id: i32) -> String {
    format!("ipcrm -{} {id}", words(kind).1)
}

/// Why one of this ID and this key cannot be made here. None: it can, as far as can be seen.
pub fn taken(kind: Kind, made: &Made) -> Option<String> {
    let (Made { id, key, .. }, (_, letter, _)) = (*made, words(kind));
    let name = name(kind, id, key);
    if key != libc::IPC_PRIVATE && kind.find(key).is_ok_and(|found| found.is_some()) {
        let capital = letter.to_ascii_uppercase();
        return Some(format!(
            "{name}: on the destination there is one of the same key; if nobody needs that, remove it there (ipcs -{letter}, ipcrm -{capital} {key:#x})"
        ));
    }
    kind.exists(id).then(|| its_id_is_taken(kind, made))
}

fn its_id_is_taken(kind: Kind, made: &Made) -> String {
    let (name, letter) = (name(kind, made.id, made.key), words(kind).1);
    format!(
        "{name}: on the destination its ID is taken; if nobody needs what has it, remove that there (ipcs -{letter}, ipcrm -{letter})"
    )
}

/// One that has been made for a new process. Dropped before that runs, it is removed.
#[derive(Debug)]
pub struct NewObject {
    kind: Kind,
    made: Made,
    size: u64,
    kept: bool,
}

impl NewObject {
    /// Has the new process make it, by `run`, with nobody allowed to use it. `size`: bytes, or semaphores.
    pub fn make(
        kind: Kind,
        made: Made,
        size: u64,
        mut run: impl FnMut(&Batch) -> Result<Results>,
    ) -> Result<NewObject> {
        let doing = || format!("make {}", name(kind, made.id, made.key));
        // An ID that is to be given next, and is not, would be given to somebody else's.
        if let Some(why) = taken(kind, &made) {
            return Err(Error::Refused(vec![why]));
        }
        for _ in 0..TRIES {
            kind.set_next_id(made.id).doing(doing)?;
            let id = match call(kind, &made, size, &mut run)? {
                Ok(id) => id as i32,
                Err(Errno::ENOSPC) => {
                    let limits = words(kind).2;
                    return Err(Error::Refused(vec![format!(
                        "{}: the destination has no room for one more; raise its limit there ({limits})",
                        name(kind, made.id, made.key)
                    )]));
                }
                Err(e) => return Err(Error::io(doing(), e.into())),
            };
            let new = NewObject { kind, made: Made { id, ..made }, size, kept: false };
            if id == made.id {
                return Ok(new);
            }
        }
        Err(Error::Refused(vec![its_id_is_taken(kind, &made)]))
    }

    /// Its ID.
    pub fn id(&self) -> i32 {
        self.made.id
    }

    /// Whether it was made so.
    pub fn is(&self, made: &Made, size: u64) -> bool {
        self.made == *made && self.size == size
    }

    /// Removes it now: shared memory goes with the last attachment.
    pub fn remove(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.kept, true) {
            let Made { id, key, .. } = self.made;
            self.kind.remove(id).doing(|| format!("remove {}", name(self.kind, id, key)))?;
        }
        Ok(())
    }

    /// It is the new process's own.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("{error}");
        }
    }
}

/// Who makes one counts as its creator: for that call the new process is that user.
fn call(
    kind: Kind,
    made: &Made,
    size: u64,
    run: &mut impl FnMut(&Batch) -> Result<Results>,
) -> Result<std::result::Result<u64, Errno>> {
    const SAME: i32 = -1;
    let flags = libc::IPC_CREAT | libc::IPC_EXCL;
    let own = (geteuid().as_raw(), getegid().as_raw());
    let mut batch = Batch::new();
    let user = |batch: &mut Batch, user: u32| {
        batch.must(libc::SYS_setresuid, [SAME.into(), u64::from(user).into(), SAME.into()]);
    };
    let group = |batch: &mut Batch, group: u32| {
        batch.must(libc::SYS_setresgid, [SAME.into(), u64::from(group).into(), SAME.into()]);
    };
    if made.creator != own {
        group(&mut batch, made.creator.1);
        user(&mut batch, made.creator.0);
    }
    let id = match kind {
        Kind::Memory => batch.call(libc::SYS_shmget, [made.key.into(), size.into(), flags.into()]),
        Kind::Semaphores => batch.call(libc::SYS_semget, [made.key.into(), size.into(), flags.into()]),
        Kind::Messages => batch.call(libc::SYS_msgget, [made.key.into(), flags.into()]),
    };
    if made.creator != own {
        user(&mut batch, own.0);
        group(&mut batch, own.1);
    }
    Ok(run(&batch)?.value(id))
}
