//! A process held by descriptor: pidfd_open(2), pidfd_getfd(2), pidfd_send_signal(2).
//!
//! Unlike a PID, a pidfd never comes to mean another process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

/// A descriptor of a process; close-on-exec.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process `pid`, a number of the caller's PID namespace and the ID of a thread group
    /// leader.
    ///
    /// # Errors
    /// `EINVAL` for a number that is not positive or not a leader's, `ESRCH` when there is no such process.
    pub fn open(pid: i32) -> io::Result<PidFd> {
        // Negative numbers must not reach rustix, which asserts.
        let pid = Some(pid)
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(PidFd(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// A duplicate, in this process, of the descriptor `fd` of that process: the same open file
    /// description, close-on-exec.
    ///
    /// # Errors
    /// `EBADF` when `fd` is not open there, `EPERM` without ptrace access, `ESRCH` when the process has
    /// ended, `EMFILE` when this process has no number left.
    pub fn get_fd(&self, fd: i32) -> io::Result<OwnedFd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(rustix::process::pidfd_getfd(&self.0, fd, PidfdGetfdFlags::empty())?)
    }

    /// Sends a signal by number, as kill(2) does; 0 only asks whether that may be done.
    ///
    /// # Errors
    /// `ESRCH` when the process has ended and been waited for, `EPERM`, `EINVAL` for a wrong number.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        // Not rustix's: its type has no real-time signals and no 0.
        // SAFETY: the descriptor is open, and no siginfo is given that the kernel would read.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    /// Takes a pidfd made elsewhere, for example by clone3(2) with `CLONE_PIDFD`.
    fn from(fd: OwnedFd) -> PidFd {
        PidFd(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[test]
    fn takes_a_descriptor_of_a_child() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pidfd = PidFd::open(child.id() as i32).unwrap();
        // The child's standard output, taken from it: what is written here comes out of its pipe.
        let mut theirs = std::fs::File::from(pidfd.get_fd(1).unwrap());
        theirs.write_all(b"hello").unwrap();
        let mut seen = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"hello");
        assert_eq!(pidfd.get_fd(900).unwrap_err().raw_os_error(), Some(libc::EBADF));

        pidfd.send_signal(0).unwrap();
        pidfd.send_signal(libc::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(pidfd.send_signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn wrong_numbers_are_errors() {
        assert!(PidFd::open(0).is_err());
        assert!(PidFd::open(-5).is_err());
        assert!(PidFd::open(i32::MIN).is_err());
        let own = PidFd::open(std::process::id() as i32).unwrap();
        assert!(own.get_fd(-1).is_err());
    }
}
