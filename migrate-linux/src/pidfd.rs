//! A process held by descriptor: pidfd_open(2), pidfd_getfd(2), pidfd_send_signal(2).
//!
//! Unlike a PID, a pidfd never comes to mean another process.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::spawn::CloneArgs;

/// `struct pidfd_info` (linux/pidfd.h), its first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit: i32,
}

/// The wait status of the process that a pidfd is of, when it has ended and been waited for. None: it has not, or this kernel does not
/// tell (Linux 6.15 does).
pub fn end_of(pidfd: &OwnedFd) -> Option<i32> {
    /// `_IOWR(0xFF, 11, struct pidfd_info)`
    const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel reads and fills in the structure, whose size the number says, and it outlives the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit)
}

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

    /// Opens one thread (`PIDFD_THREAD`, Linux 6.9), not the process that it is of.
    ///
    /// # Errors
    /// As [`PidFd::open`].
    pub fn open_thread(tid: i32) -> io::Result<PidFd> {
        /// linux/pidfd.h
        const PIDFD_THREAD: u32 = libc::O_EXCL as u32;
        let tid = Some(tid).filter(|tid| *tid > 0).and_then(Pid::from_raw);
        let tid = tid.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(PidFd(rustix::process::pidfd_open(tid, PidfdFlags::from_bits_retain(PIDFD_THREAD))?))
    }

    /// Makes one of a process that has ended with this wait status, and been waited for. Only in a process with a single thread.
    ///
    /// # Errors
    /// Those of making a process.
    pub fn of_ended(status: i32) -> io::Result<PidFd> {
        let mut fd: libc::c_int = -1;
        let args = CloneArgs {
            flags: libc::CLONE_PIDFD as u64,
            pidfd: (&raw mut fd) as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        // SAFETY: args and fd live until the call returns; without CLONE_VM the child has a copy of everything, and does nothing but
        // end, without the destructors and exit handlers that are its original's.
        let child = unsafe {
            let child = libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>());
            if child == 0 {
                if libc::WIFSIGNALED(status) {
                    let signal = libc::WTERMSIG(status);
                    libc::signal(signal, libc::SIG_DFL);
                    let none = 0u64;
                    libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, size_of::<u64>());
                    libc::kill(libc::getpid(), signal);
                }
                libc::_exit(libc::WEXITSTATUS(status));
            }
            child
        };
        if child < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(child as i32, std::ptr::null_mut(), 0) } == -1 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(PidFd(fd))
    }

    /// Whether the process has ended, perhaps without having been waited for.
    pub fn has_ended(&self) -> bool {
        // Readable then (pidfd_open(2)); it cannot fail but for want of memory.
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::event::poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
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

    /// Makes huge pages of a range of its memory, multiples of 2 MiB, block by block; what cannot be one stays as it is
    /// (madvise(2), MADV_COLLAPSE; Linux 6.1). Each block must have a page. The process waits when it touches a block meanwhile.
    ///
    /// # Errors
    /// `EINVAL`, `EAGAIN` or `ENOMEM` when some could not be made; `EINVAL` on an older kernel; `EPERM`.
    pub fn collapse(&self, range: Range<u64>) -> io::Result<()> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        let part = libc::iovec { iov_base: range.start as *mut libc::c_void, iov_len: length };
        // SAFETY: the descriptor is open and the kernel reads one iovec; its addresses are those of the other process, whose memory
        // has the same content afterwards.
        let result = unsafe {
            libc::syscall(libc::SYS_process_madvise, self.0.as_raw_fd(), &raw const part, 1, libc::MADV_COLLAPSE, 0)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
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
        assert!(!pidfd.has_ended());
        pidfd.send_signal(libc::SIGKILL).unwrap();
        while !pidfd.has_ended() {
            std::thread::yield_now();
        }
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(pidfd.has_ended(), "waited for, too");
        assert_eq!(pidfd.send_signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn one_that_has_ended_is_made() {
        assert_eq!(size_of::<Info>(), 64);
        let cases = [0, 7 << 8, libc::SIGTERM];
        for status in cases {
            let made = OwnedFd::from(PidFd::of_ended(status).unwrap());
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", made.as_raw_fd())).unwrap();
            assert!(text.contains("Pid:\t-1\n"), "{text}");
            // Older kernels do not tell.
            assert!(end_of(&made).is_none_or(|end| end == status), "{status}: {:?}", end_of(&made));
            assert_eq!(PidFd::from(made).send_signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
        assert_eq!(end_of(&OwnedFd::from(PidFd::open(std::process::id() as i32).unwrap())), None);
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
