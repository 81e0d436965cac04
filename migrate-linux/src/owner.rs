//! Whom the kernel tells of events on an open file description (fcntl(2), "Managing signals").

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// asm-generic/fcntl.h; not in libc for every target.
pub const F_SETSIG: i32 = 10;
/// See `F_SETSIG`.
pub const F_SETOWN_EX: i32 = 15;
const F_GETSIG: i32 = 11;
const F_GETOWN_EX: i32 = 16;

/// What an owner's ID is of; the values are those of struct f_owner_ex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum OwnerKind {
    /// A thread alone.
    Thread = 0,
    /// A process.
    Process = 1,
    /// A process group.
    Group = 2,
}

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// What the ID is of. Of a description of which nobody has ever been told: a thread.
    pub kind: OwnerKind,
    /// Its ID, as this process sees it. 0: nobody, somebody who is gone, or a process by the ID of a thread that is not its first
    /// (`f_getown_ex`, fs/fcntl.c).
    pub id: i32,
}

/// Nobody is told, nor ever was.
pub const NOBODY: Owner = Owner { kind: OwnerKind::Thread, id: 0 };

/// Who is told of events on this description.
///
/// # Errors
/// Those of fcntl(2), F_GETOWN_EX.
pub fn owner(fd: impl AsFd) -> io::Result<Owner> {
    let mut told = [0i32; 2];
    // SAFETY: F_GETOWN_EX writes a struct f_owner_ex, which is two ints, to where the pointer leads.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_GETOWN_EX, told.as_mut_ptr()) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    let kind = match told[0] {
        0 => OwnerKind::Thread,
        1 => OwnerKind::Process,
        2 => OwnerKind::Group,
        other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an owner of kind {other}"))),
    };
    Ok(Owner { kind, id: told[1] })
}

/// The signal that it is told by; 0: SIGIO.
///
/// # Errors
/// Those of fcntl(2), F_GETSIG.
pub fn signal(fd: impl AsFd) -> io::Result<i32> {
    // SAFETY: F_GETSIG takes no argument and touches no memory of this process.
    let signal = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_GETSIG) };
    if signal == -1 { Err(io::Error::last_os_error()) } else { Ok(signal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_one_has_none_and_a_set_one_is_read() {
        let (reading, _writing) = io::pipe().unwrap();
        assert_eq!((owner(&reading).unwrap(), signal(&reading).unwrap()), (NOBODY, 0));
        let told = [1, std::process::id() as i32];
        // SAFETY: F_SETOWN_EX reads two ints; F_SETSIG takes a number.
        let set = unsafe {
            libc::fcntl(reading.as_raw_fd(), F_SETOWN_EX, told.as_ptr())
                | libc::fcntl(reading.as_raw_fd(), F_SETSIG, libc::SIGUSR1)
        };
        assert_eq!(set, 0);
        assert_eq!(owner(&reading).unwrap(), Owner { kind: OwnerKind::Process, id: told[1] });
        assert_eq!(signal(&reading).unwrap(), libc::SIGUSR1);
        // This runs in a thread that is not the first.
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        // SAFETY: F_SETOWN takes a number.
        assert_eq!(unsafe { libc::fcntl(reading.as_raw_fd(), libc::F_SETOWN, tid) }, 0);
        assert_eq!(owner(&reading).unwrap(), Owner { kind: OwnerKind::Process, id: 0 });
    }
}
