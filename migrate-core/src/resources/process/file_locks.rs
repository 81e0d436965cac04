//! Locks on files: POSIX record locks (fcntl(2), F_SETLK), those of open file descriptions (F_OFD_SETLK) and flock(2): descriptor, read
//! or write, start, length. The first belong to the process, whichever descriptor it used, and closing any descriptor of the file drops
//! them: so they are taken when the descriptor table is complete. The others belong to a description.
//!
//! Where both hosts share the file, the new process cannot have a lock while the old one holds it. Then the source gives its
//! locks up once everything else is ready, and the destination takes them before it says that the process is its own: for the
//! fraction of a millisecond between the two nobody has them, and should somebody else be quicker, the move is rolled back.
//!
//! Who waits for a lock goes on waiting: the call begins anew.
//!
//! Leases (F_SETLEASE) belong to a description and are no lock: the original keeps its own until it ends. One for reading moves. One for
//! writing says that nobody else has the file open, so it moves only where the hosts have kernels of their own. Who is told when one is
//! to be given up is the descriptor's owner. One that is just being broken is refused: how long it still lasts, nothing tells.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, Ticket};

use crate::proc::fdinfo::FdInfo;
use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = (
    "file locks",
    "POSIX locks (fcntl), of open file descriptions (OFD), flock; who waits for one goes on waiting; leases (F_SETLEASE) for reading, and to another kernel for writing",
);

/// Whose lock it is, and how it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LockKind {
    /// The process's.
    Posix,
    /// The description's, of a range.
    Ofd,
    /// The description's, of the whole file.
    Flock,
    /// No lock: its owner is told when somebody else is about to open the file.
    Lease,
}

/// One lock.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FileLock {
    /// Whose.
    pub kind: LockKind,
    /// The descriptor that it was taken through, or one of the description that has it.
    pub descriptor: i32,
    /// Nobody else may have it; else nobody may have it so.
    pub write: bool,
    /// First byte.
    pub start: i64,
    /// Bytes; 0: to the end of the file, wherever that will be.
    pub length: i64,
}

/// The locks and leases that a descriptor's fdinfo shows. Err: one that cannot move, or makes no sense.
pub fn parse(descriptor: i32, info: &FdInfo) -> Result<Vec<FileLock>, String> {
    let lines = info.extra.iter().filter(|(key, _)| key == b"lock").map(|(_, value)| value);
    lines.map(|line| parse_line(descriptor, &String::from_utf8_lossy(line))).collect()
}

/// Whether it shows locks that everybody has who has the description.
pub fn belong_to_description(info: &FdInfo) -> bool {
    let own = |value: &[u8]| value.windows(5).any(|word| matches!(word, b"FLOCK" | b"OFDLC" | b"LEASE"));
    info.extra.iter().any(|(key, value)| key == b"lock" && own(value))
}

/// `1: POSIX  ADVISORY  WRITE 4242 fe:00:1234 0 EOF` (fs/locks.c `lock_get_status`).
fn parse_line(descriptor: i32, line: &str) -> Result<FileLock, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, state, mode, _, _, start, end] = words[..] else {
        return Err(format!("fd {descriptor}: a lock that is not understood ({line})"));
    };
    let kind = match kind {
        "POSIX" => LockKind::Posix,
        "OFDLCK" => LockKind::Ofd,
        "FLOCK" => LockKind::Flock,
        "LEASE" if state == "ACTIVE" => LockKind::Lease,
        "LEASE" => {
            return Err(format!(
                "fd {descriptor}: its lease (F_SETLEASE) is being broken by a process that opens the file; try again when the program has released it"
            ));
        }
        _ => return Err(format!("fd {descriptor}: a lock that is not understood ({line})")),
    };
    let parsed = match end {
        "EOF" => start.parse().ok().map(|start| (start, 0)),
        end => start
            .parse::<i64>()
            .ok()
            .zip(end.parse::<i64>().ok())
            .and_then(|(s, e)| Some((s, e.checked_sub(s).filter(|n| *n >= 0)?.checked_add(1)?))),
    };
    let (start, length) = parsed.ok_or_else(|| format!("fd {descriptor}: a lock that is not understood ({line})"))?;
    Ok(FileLock { kind, descriptor, write: mode == "WRITE", start, length })
}

/// The lease that a descriptor's fdinfo shows: whether it is for writing.
pub fn lease(info: &FdInfo) -> Option<bool> {
    let locks = parse(0, info).unwrap_or_default();
    locks.iter().find(|lock| lock.kind == LockKind::Lease).map(|lock| lock.write)
}

/// Why the lease of a description cannot move. `nameless`: its content travels; `one_machine`: both hosts are one, and see the same files.
pub fn lease_obstacle(number: i32, info: &FdInfo, nameless: bool, one_machine: bool) -> Option<String> {
    let write = lease(info)?;
    let why = match (nameless, write && one_machine) {
        (true, _) => "a lease (F_SETLEASE) on a file without a name, which nobody could break; it cannot move",
        (_, true) => {
            "has a lease for writing (F_SETLEASE), which opening its file over there, where both hosts are one machine, would break"
        }
        _ => return None,
    };
    Some(format!("fd {number}: {why}; let the program release it"))
}

/// So many calls fit into one batch.
pub const AT_ONCE: usize = 2000;

/// Adds the calls that take the locks (or give them up); none of them waits. Ok of a ticket: done.
pub fn add_calls(locks: &[FileLock], take: bool, batch: &mut Batch) -> Vec<Ticket> {
    let mut tickets = Vec::with_capacity(locks.len());
    for lock in locks {
        let command = match lock.kind {
            LockKind::Posix => libc::F_SETLK,
            LockKind::Ofd => libc::F_OFD_SETLK,
            LockKind::Lease => {
                let kind = type_of(take, lock.write);
                let arguments = [lock.descriptor.into(), libc::F_SETLEASE.into(), kind.into()];
                tickets.push(batch.call(libc::SYS_fcntl, arguments));
                continue;
            }
            LockKind::Flock => {
                let operation = match (take, lock.write) {
                    (false, _) => libc::LOCK_UN,
                    (true, true) => libc::LOCK_EX | libc::LOCK_NB,
                    (true, false) => libc::LOCK_SH | libc::LOCK_NB,
                };
                tickets.push(batch.call(libc::SYS_flock, [lock.descriptor.into(), operation.into()]));
                continue;
            }
        };
        let kind = type_of(take, lock.write);
        // struct flock: type, whence (SEEK_SET), padding, start, length, pid (0: a must for those of descriptions), padding.
        let mut bytes = [0u8; 32];
        bytes[..2].copy_from_slice(&(kind as i16).to_le_bytes());
        bytes[8..16].copy_from_slice(&lock.start.to_le_bytes());
        bytes[16..24].copy_from_slice(&lock.length.to_le_bytes());
        let flock = batch.bytes(&bytes);
        tickets.push(batch.call(libc::SYS_fcntl, [lock.descriptor.into(), command.into(), flock.into()]));
    }
    tickets
}

fn type_of(take: bool, write: bool) -> i32 {
    match (take, write) {
        (false, _) => libc::F_UNLCK,
        (true, true) => libc::F_WRLCK,
        (true, false) => libc::F_RDLCK,
    }
}

/// For a state file.
impl fmt::Display for FileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileLock { kind, descriptor, write, start, length } = self;
        let kind = match kind {
            LockKind::Posix => "lock",
            LockKind::Ofd => "ofd-lock",
            LockKind::Flock => "flock",
            LockKind::Lease => "lease",
        };
        write!(f, "{kind} {descriptor} {} {start} {length}", if *write { "write" } else { "read" })
    }
}

impl FromStr for FileLock {
    type Err = ();

    fn from_str(text: &str) -> Result<FileLock, ()> {
        let [kind, descriptor, mode @ ("read" | "write"), start, length] = text.split(' ').collect::<Vec<_>>()[..]
        else {
            return Err(());
        };
        let kind = match kind {
            "lock" => LockKind::Posix,
            "ofd-lock" => LockKind::Ofd,
            "flock" => LockKind::Flock,
            "lease" => LockKind::Lease,
            _ => return Err(()),
        };
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0).ok_or(());
        let descriptor = i32::try_from(number(descriptor)?).map_err(|_| ())?;
        Ok(FileLock { kind, descriptor, write: mode == "write", start: number(start)?, length: number(length)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_keeps_them() {
        for lock in [
            FileLock { kind: LockKind::Posix, descriptor: 3, write: true, start: 0, length: 0 },
            FileLock { kind: LockKind::Ofd, descriptor: i32::MAX, write: false, start: i64::MAX, length: 17 },
            FileLock { kind: LockKind::Flock, descriptor: 0, write: true, start: 0, length: 0 },
            FileLock { kind: LockKind::Lease, descriptor: 1, write: false, start: 0, length: 0 },
        ] {
            assert_eq!(lock.to_string().parse(), Ok(lock));
        }
        for bad in [
            "",
            "lock",
            "lock 3 write 0",
            "lock 3 both 0 0",
            "lock -1 read 0 0",
            "lock 3 read -1 0",
            "lock 4294967296 read 0 0",
        ] {
            assert!(bad.parse::<FileLock>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_understood_or_refused() {
        let lock = |write, start, length| FileLock { kind: LockKind::Posix, descriptor: 3, write, start, length };
        assert_eq!(parse_line(3, "1: POSIX  ADVISORY  WRITE 4242 fe:00:1234 0 EOF"), Ok(lock(true, 0, 0)));
        assert_eq!(
            parse_line(3, "2: POSIX  ADVISORY  READ 4242 fe:00:1234 1073741826 1073742335"),
            Ok(lock(false, 1_073_741_826, 510))
        );
        let other = |kind, line| assert_eq!(parse_line(3, line), Ok(FileLock { kind, ..lock(false, 0, 0) }));
        other(LockKind::Flock, "1: FLOCK  ADVISORY  READ 1 fe:00:1 0 EOF");
        other(LockKind::Ofd, "1: OFDLCK ADVISORY  READ -1 fe:00:1 0 EOF");
        other(LockKind::Lease, "1: LEASE  ACTIVE    READ 1 fe:00:1 0 EOF");
        let breaking = parse_line(3, "1: LEASE  BREAKING  READ 1 fe:00:1 0 EOF");
        assert!(breaking.unwrap_err().contains("is being broken"));
        for bad in
            ["", "1: POSIX", "1: POSIX ADVISORY WRITE 1 a:b:1 x EOF", "1: POSIX A WRITE 1 a:b:1 0 -9223372036854775808"]
        {
            assert!(parse_line(3, bad).is_err(), "{bad}");
        }
    }
}
