//! System V message queues (msgctl(2), msgop(2)): what they are, and what is in them.

use std::io;

use crate::sysv_ipc::{Permissions, put};

/// In the flags of msgrcv(2): the message at that place is copied, and stays (CONFIG_CHECKPOINT_RESTORE; linux/msg.h).
const MSG_COPY: i32 = 0o40000;

/// What the kernel tells of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Key, owner, permissions.
    pub permissions: Permissions,
    /// Bytes that it may hold.
    pub limit: u64,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Messages that it holds.
    pub count: u64,
    /// Who did the last msgsnd(2), as this process sees the PID; 0: nobody, or nobody that is seen from here.
    pub sender: i32,
    /// Who did the last msgrcv(2).
    pub receiver: i32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// What it says.
    pub text: Vec<u8>,
}

/// Looks at a queue.
///
/// # Errors
/// `EINVAL` or `EIDRM` for an ID that is none, `EACCES`.
pub fn stat(queue: i32) -> io::Result<Queue> {
    let told = control_stat(queue)?;
    Ok(Queue {
        permissions: told.msg_perm.into(),
        limit: told.msg_qbytes,
        bytes: told.__msg_cbytes,
        count: told.msg_qnum,
        sender: told.msg_lspid,
        receiver: told.msg_lrpid,
    })
}

/// Sets owner, permissions (the nine lower bits), and how many bytes a queue may hold.
///
/// # Errors
/// Those of msgctl(2): `EPERM` for more bytes than kernel.msgmnb without CAP_SYS_RESOURCE.
pub fn set(queue: i32, mode: u32, owner: (u32, u32), limit: u64) -> io::Result<()> {
    let mut told = control_stat(queue)?;
    put(&mut told.msg_perm, mode, owner);
    told.msg_qbytes = limit;
    control(queue, libc::IPC_SET, &mut told)
}

/// How many queues there are in this IPC namespace.
///
/// # Errors
/// `ENOSYS` of a kernel without them.
pub fn count_all() -> io::Result<u32> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut told: libc::msginfo = unsafe { std::mem::zeroed() };
    // SAFETY: MSG_INFO writes one struct msginfo, which is smaller than the struct that the function is declared with.
    match unsafe { libc::msgctl(0, libc::MSG_INFO, (&raw mut told).cast()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(told.msgpool.max(0) as u32),
    }
}

/// The messages of a queue in their order, without taking them. `room`: bytes that none of them is longer than.
///
/// # Errors
/// Those of msgrcv(2): `E2BIG` when one is longer, `ENOSYS` without CONFIG_CHECKPOINT_RESTORE, `EINVAL` when one is longer than
/// kernel.msgmax is now.
pub fn peek_all(queue: i32, room: usize) -> io::Result<Vec<Message>> {
    // The type, and then what it says.
    let mut buffer = vec![0u64; 1 + room.div_ceil(8)];
    let mut all = Vec::new();
    loop {
        let place = all.len() as i64;
        // SAFETY: it writes 8 bytes and `room` at most behind them; so many there are.
        let length =
            unsafe { libc::msgrcv(queue, buffer.as_mut_ptr().cast(), room, place, MSG_COPY | libc::IPC_NOWAIT) };
        let Ok(length) = usize::try_from(length) else {
            let why = io::Error::last_os_error();
            return if why.raw_os_error() == Some(libc::ENOMSG) { Ok(all) } else { Err(why) };
        };
        let (kind, text) = buffer.split_first().map_or((0, &[][..]), |(kind, text)| (*kind as i64, text));
        let mut text: Vec<u8> = text.iter().take(length.div_ceil(8)).flat_map(|word| word.to_ne_bytes()).collect();
        text.truncate(length);
        all.push(Message { kind, text });
    }
}

fn control_stat(queue: i32) -> io::Result<libc::msqid_ds> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut told = unsafe { std::mem::zeroed() };
    control(queue, libc::IPC_STAT, &mut told)?;
    Ok(told)
}

fn control(queue: i32, command: i32, told: &mut libc::msqid_ds) -> io::Result<()> {
    // SAFETY: each of the commands used here reads or writes one struct msqid_ds.
    if unsafe { libc::msgctl(queue, command, told) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysv_ipc::Kind;

    #[test]
    fn what_is_in_a_queue_is_read_and_stays() {
        // SAFETY: takes numbers alone.
        let queue = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        if queue < 0 {
            println!("SKIPPED what_is_in_a_queue_is_read_and_stays: msgget: {}", io::Error::last_os_error());
            return;
        }
        let sent = [(9, &b"first"[..]), (3, b""), (i64::MAX, b"a text of many words"), (3, b"12345678")];
        for (kind, text) in sent {
            let bytes = [&kind.to_ne_bytes()[..], text].concat();
            // SAFETY: a type, and as many bytes behind it.
            assert_eq!(unsafe { libc::msgsnd(queue, bytes.as_ptr().cast(), text.len(), libc::IPC_NOWAIT) }, 0);
        }
        let (all, told) = ([peek_all(queue, 20), peek_all(queue, 20)], stat(queue).unwrap());
        let (too_little, number) = (peek_all(queue, 19), count_all());
        let changed = set(queue, 0o604, (7, 8), 1000).and_then(|()| stat(queue));
        Kind::Messages.remove(queue).unwrap();
        let expected = sent.map(|(kind, text)| Message { kind, text: text.into() });
        all.into_iter().for_each(|all| assert_eq!(all.unwrap(), expected));
        assert_eq!((told.count, told.bytes, told.receiver), (4, 33, 0));
        assert_eq!(told.sender, std::process::id() as i32);
        assert_eq!(too_little.unwrap_err().raw_os_error(), Some(libc::E2BIG));
        assert!(number.unwrap() >= 1);
        if nix::unistd::getuid().is_root() {
            let changed = changed.unwrap();
            assert_eq!((changed.permissions.owner, changed.permissions.mode, changed.limit), ((7, 8), 0o604, 1000));
        }
        assert!(!Kind::Messages.exists(queue));
    }
}
