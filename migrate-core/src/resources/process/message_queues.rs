//! System V message queues.
//!
//! Properties: ID, key, creator, owner, permissions, how many bytes it may hold, its messages in their order, each with its type; whether
//! anything was ever sent to it and taken from it (msg_lspid, msg_lrpid). When that was last is when it comes here, and whoever did it,
//! this process has. Threads that wait queue up anew, as with [`super::semaphores`].

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::remote::{Batch, Results};
use migrate_linux::sysv_msg;
use nix::errno::Errno;

use super::sysv_ipc::{Access, Made};
use crate::error::{Doing, Error, Result};
use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = (
    "System V message queues",
    "those that only the process has used, or that a thread waits for: ID, key, messages with their types, in order, creator, owner, permissions, limit (msg_qbytes); not when they were used, nor who waits first",
);

/// All messages of one process together may have this many bytes: they travel while it stands still, in one piece.
pub const MOST_BYTES: u64 = 16 << 20;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct QueueImage {
    /// What it is made with.
    pub made: Made,
    /// Who may use it.
    pub access: Access,
    /// Bytes that it may hold.
    pub limit: u64,
    /// Something has been taken from it.
    pub received: bool,
    /// Each message's type, and what it says.
    pub messages: Vec<(i64, Vec<u8>)>,
}

impl QueueImage {
    /// Reads one; everything stays in it.
    pub fn capture(id: i32) -> Result<QueueImage> {
        let doing = || format!("read System V message queue {id}");
        let told = sysv_msg::stat(id).doing(doing)?;
        if told.bytes > MOST_BYTES {
            return Err(Error::Refused(vec![too_large(told.bytes)]));
        }
        let messages = match told.count {
            0 => Vec::new(),
            _ => sysv_msg::peek_all(id, told.bytes as usize).doing(doing)?,
        };
        Ok(QueueImage {
            made: Made::of(id, told.permissions),
            access: Access::of(told.permissions),
            limit: told.limit,
            received: told.receiver != 0,
            messages: messages.into_iter().map(|message| (message.kind, message.text)).collect(),
        })
    }

    /// Has the new process, by `run`, make of a new queue what it was.
    pub fn restore(&self, memory: &ProcessMemory, mut run: impl FnMut(&Batch) -> Result<Results>) -> Result<()> {
        let id = self.made.id;
        let bytes: u64 = self.messages.iter().map(|(_, text)| text.len() as u64).sum();
        // It may hold more than it may be given now.
        let needed = self.limit.max(bytes).max(self.messages.len() as u64);
        if needed > sysv_msg::stat(id).doing(|| format!("look at System V message queue {id}"))?.limit {
            self.set(needed, 0)?;
        }
        let mut batch = Batch::new();
        if self.received {
            // One to be taken, before there are others.
            let message = batch.bytes(&1u64.to_ne_bytes());
            batch.must(libc::SYS_msgsnd, [id.into(), message.into(), 0.into(), libc::IPC_NOWAIT.into()]);
            let room = batch.buffer(8);
            batch.must(libc::SYS_msgrcv, [id.into(), room.into(), 0.into(), 0.into(), libc::IPC_NOWAIT.into()]);
        }
        for (kind, text) in &self.messages {
            let message = [&kind.to_ne_bytes()[..], text].concat();
            if !batch.has_room_for(1, message.len() + 16) {
                run(&std::mem::take(&mut batch))?;
            }
            if batch.has_room_for(1, message.len() + 16) {
                let at = batch.bytes(&message);
                batch.must(libc::SYS_msgsnd, [id.into(), at.into(), text.len().into(), libc::IPC_NOWAIT.into()]);
            } else {
                send_large(id, &message, memory, &mut run)?;
            }
        }
        if !batch.is_empty() {
            run(&batch)?;
        }
        self.set(self.limit, self.access.mode)
    }

    /// Why messages of it cannot be here. None: they can.
    pub fn too_long(&self) -> Result<Option<String>> {
        let longest = self.messages.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
        let path = "/proc/sys/kernel/msgmax";
        let most = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
        let most = most.trim().parse().map_err(|_| Error::Invalid(format!("{path}: {most}")))?;
        Ok((longest > most).then(|| {
            format!(
                "System V message queue {}: a message in it has {longest} bytes, and the destination allows {most}; raise kernel.msgmax there",
                self.made.id
            )
        }))
    }

    fn set(&self, limit: u64, mode: u32) -> Result<()> {
        let (id, owner) = (self.made.id, self.access.owner);
        sysv_msg::set(id, mode, owner, limit).map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::EPERM => Error::Refused(vec![format!(
                "System V message queue {id}: it may hold {limit} bytes, which is more than the destination allows; raise kernel.msgmnb there"
            )]),
            _ => Error::io(format!("set owner, permissions and limit of System V message queue {id}"), error),
        })
    }
}

/// One that does not fit into a batch.
fn send_large(
    id: i32,
    message: &[u8],
    memory: &ProcessMemory,
    run: &mut impl FnMut(&Batch) -> Result<Results>,
) -> Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let mut batch = Batch::new();
    let args = [0.into(), message.len().into(), protection.into(), flags.into(), (-1).into(), 0.into()];
    let place = batch.must(libc::SYS_mmap, args);
    let place = run(&batch)?.value(place).map_err(|e| Error::io("make room for a message".into(), e.into()))?;
    memory.write(place, message).doing(|| "write a message".into())?;
    let mut batch = Batch::new();
    batch.must(libc::SYS_msgsnd, [id.into(), place.into(), (message.len() - 8).into(), libc::IPC_NOWAIT.into()]);
    batch.must(libc::SYS_munmap, [place.into(), message.len().into()]);
    run(&batch).map(drop)
}

/// Why so many bytes cannot move.
pub fn too_large(bytes: u64) -> String {
    format!(
        "its System V message queues hold {bytes} bytes, and at most {MOST_BYTES} can move; let the program take some first"
    )
}
