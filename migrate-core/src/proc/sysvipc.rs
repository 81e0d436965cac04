//! `/proc/sysvipc/sem` and `msg`: the System V semaphores and message queues of this IPC namespace (proc_sysvipc(5),
//! `sysvipc_sem_proc_show` in ipc/sem.c, `sysvipc_msg_proc_show` in ipc/msg.c).

use std::io;

use super::text::{lines, number, signed, words};
use super::{Malformed, read_parsed};

/// A set of semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SemaphoreSet {
    /// What semget(2) returned.
    pub id: i32,
    /// The key; 0: IPC_PRIVATE.
    pub key: i32,
    /// How many semaphores it has.
    pub count: u32,
    /// The user that made it.
    pub creator: u32,
    /// When a semop(2) on it was last done, seconds of CLOCK_REALTIME; 0: never.
    pub used_at: i64,
    /// When it was made, or semctl(2) last changed it.
    pub changed_at: i64,
}

/// A message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageQueue {
    /// What msgget(2) returned.
    pub id: i32,
    /// The key; 0: IPC_PRIVATE.
    pub key: i32,
    /// Bytes that it holds.
    pub bytes: u64,
    /// The user that made it.
    pub creator: u32,
    /// Who did the last msgsnd(2), as the reader sees the PID; 0: nobody.
    pub sender: i32,
    /// Who did the last msgrcv(2).
    pub receiver: i32,
    /// When the last msgsnd(2) was done, seconds of CLOCK_REALTIME; 0: never.
    pub sent_at: i64,
    /// When the last msgrcv(2) was done.
    pub received_at: i64,
    /// When it was made, or msgctl(2) last changed it.
    pub changed_at: i64,
}

/// Parses the text of `/proc/sysvipc/sem`.
///
/// # Errors
/// Which line is not understood, counted from 1.
pub fn parse_semaphores(text: &[u8]) -> Result<Vec<SemaphoreSet>, Malformed> {
    parse_lines(text, |field| {
        Some(SemaphoreSet {
            key: key(field(0)?)?,
            id: signed(field(1)?)?.try_into().ok()?,
            count: number(field(3)?, 10)?.try_into().ok()?,
            creator: number(field(6)?, 10)?.try_into().ok()?,
            used_at: signed(field(8)?)?,
            changed_at: signed(field(9)?)?,
        })
    })
}

/// Parses the text of `/proc/sysvipc/msg`.
///
/// # Errors
/// Which line is not understood, counted from 1.
pub fn parse_queues(text: &[u8]) -> Result<Vec<MessageQueue>, Malformed> {
    parse_lines(text, |field| {
        Some(MessageQueue {
            key: key(field(0)?)?,
            id: signed(field(1)?)?.try_into().ok()?,
            bytes: number(field(3)?, 10)?,
            sender: signed(field(5)?)?.try_into().ok()?,
            receiver: signed(field(6)?)?.try_into().ok()?,
            creator: number(field(9)?, 10)?.try_into().ok()?,
            sent_at: signed(field(11)?)?,
            received_at: signed(field(12)?)?,
            changed_at: signed(field(13)?)?,
        })
    })
}

fn parse_lines<'t, T>(
    text: &'t [u8],
    parse: impl Fn(&dyn Fn(usize) -> Option<&'t [u8]>) -> Option<T>,
) -> Result<Vec<T>, Malformed> {
    // The first line has the columns' names.
    let parsed = lines(text).enumerate().skip(1).map(|(n, line)| {
        let fields: Vec<&[u8]> = words(line).collect();
        parse(&|n| fields.get(n).copied()).ok_or_else(|| Malformed::new(format!("line {} is malformed", n + 1)))
    });
    parsed.collect()
}

/// A key_t, which is shown with its sign.
fn key(text: &[u8]) -> Option<i32> {
    signed(text)?.try_into().ok()
}

/// Reads `/proc/sysvipc/sem`; a kernel without System V IPC has none.
///
/// # Errors
/// Those of reading, or InvalidData with a [`super::FileError`].
pub fn read_semaphores() -> io::Result<Vec<SemaphoreSet>> {
    or_none(read_parsed("/proc/sysvipc/sem".into(), parse_semaphores))
}

/// Reads `/proc/sysvipc/msg`; a kernel without System V IPC has none.
///
/// # Errors
/// Those of reading, or InvalidData with a [`super::FileError`].
pub fn read_queues() -> io::Result<Vec<MessageQueue>> {
    or_none(read_parsed("/proc/sysvipc/msg".into(), parse_queues))
}

fn or_none<T>(read: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEMAPHORES: &[u8] = b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
        -559038737      32769   666          3  1000  1000    77     0 1790000000 1780000000\n         \
        0          2   600          1     0     0     0     0          0 1780000000\n";
    const QUEUES: &[u8] = b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      \
        stime      rtime      ctime\n        81          5   600          16          1  4242     7     0     0    78     0 \
        1790000001 1790000002 1780000000\n";

    #[test]
    fn every_field() {
        let sets = parse_semaphores(SEMAPHORES).unwrap();
        let first = SemaphoreSet {
            id: 32769,
            key: -559_038_737,
            count: 3,
            creator: 77,
            used_at: 1_790_000_000,
            changed_at: 1_780_000_000,
        };
        assert_eq!(sets[0], first);
        assert_eq!((sets.len(), sets[1].id, sets[1].used_at), (2, 2, 0));
        let queue = MessageQueue {
            id: 5,
            key: 81,
            bytes: 16,
            creator: 78,
            sender: 4242,
            receiver: 7,
            sent_at: 1_790_000_001,
            received_at: 1_790_000_002,
            changed_at: 1_780_000_000,
        };
        assert_eq!(parse_queues(QUEUES).unwrap(), [queue]);
        assert_eq!(parse_queues(b"").unwrap(), []);
    }

    #[test]
    fn a_line_that_is_cut_is_named() {
        let cut = &SEMAPHORES[..SEMAPHORES.len() - 15];
        assert!(parse_semaphores(cut).unwrap_err().to_string().contains("line 3"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_understood(text: Vec<u8>) {
            let _ = (parse_semaphores(&text), parse_queues(&text));
        }
    }
}
