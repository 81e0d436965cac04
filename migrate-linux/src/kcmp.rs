//! Which kernel objects tasks share: kcmp(2).
//!
//! Two descriptors that refer to one open file description must travel once and be shared again at the
//! destination; kcmp(2) is the only way to tell them from two that were opened alike. The order that it
//! gives (of obfuscated kernel addresses) holds until the next boot: descriptors can be sorted by it, so
//! that n of them are grouped in n·log n calls.

use std::cmp::Ordering;
use std::io;

/// What two tasks may share. The numbers are those of include/uapi/linux/kcmp.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[non_exhaustive]
pub enum Shared {
    /// The address space (`CLONE_VM`).
    Vm = 1,
    /// The table of descriptors (`CLONE_FILES`).
    Files = 2,
    /// Root, working directory and umask (`CLONE_FS`).
    Fs = 3,
    /// The table of signal handlers (`CLONE_SIGHAND`).
    Sighand = 4,
    /// The I/O context (`CLONE_IO`). Two tasks without one compare as equal.
    Io = 5,
    /// The list of System V semaphore undo operations (`CLONE_SYSVSEM`). Two tasks without one compare as
    /// equal.
    SysvSem = 6,
}

const KCMP_FILE: i32 = 0;

/// Whether the tasks `tid1` and `tid2` share the object.
///
/// # Errors
/// `ESRCH` when one of them does not exist, `EPERM` without ptrace access to both, `ENOSYS` on a kernel
/// without `CONFIG_KCMP`.
pub fn same(kind: Shared, tid1: i32, tid2: i32) -> io::Result<bool> {
    Ok(kcmp(tid1, tid2, kind as i32, 0, 0)? == 0)
}

/// Whether descriptor `fd1` of task `tid1` and `fd2` of `tid2` are one open file description.
///
/// # Errors
/// As [`same`], and `EBADF` when one of the descriptors is not open.
pub fn same_file(tid1: i32, fd1: i32, tid2: i32, fd2: i32) -> io::Result<bool> {
    Ok(file_order(tid1, fd1, tid2, fd2)? == Ordering::Equal)
}

/// The kernel's order of two open file descriptions, total and the same until the next boot: for sorting.
///
/// # Errors
/// As [`same_file`].
pub fn file_order(tid1: i32, fd1: i32, tid2: i32, fd2: i32) -> io::Result<Ordering> {
    // The kernel reads them as unsigned and finds no such descriptor.
    match kcmp(tid1, tid2, KCMP_FILE, fd1 as u32, fd2 as u32)? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        other => Err(io::Error::other(format!(
            "kcmp of descriptor {fd1} of task {tid1} with {fd2} of {tid2} gave no order ({other})"
        ))),
    }
}

fn kcmp(tid1: i32, tid2: i32, kind: i32, index1: u32, index2: u32) -> io::Result<i64> {
    // SAFETY: for the kinds used here kcmp takes numbers alone and reads no memory.
    let result = unsafe {
        libc::syscall(libc::SYS_kcmp, tid1, tid2, kind, libc::c_ulong::from(index1), libc::c_ulong::from(index2))
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn available() -> bool {
        let own = std::process::id() as i32;
        match same(Shared::Vm, own, own) {
            Ok(_) => true,
            Err(why) => {
                println!("SKIPPED kcmp: {why}");
                false
            }
        }
    }

    #[test]
    fn tells_a_duplicate_from_a_second_open() {
        if !available() {
            return;
        }
        let own = std::process::id() as i32;
        let first = File::open("/proc/self/status").unwrap();
        let duplicate = first.try_clone().unwrap();
        let second = File::open("/proc/self/status").unwrap();
        let (a, b, c) = (first.as_raw_fd(), duplicate.as_raw_fd(), second.as_raw_fd());
        assert!(same_file(own, a, own, b).unwrap());
        assert!(!same_file(own, a, own, c).unwrap());
        assert_eq!(file_order(own, a, own, c).unwrap(), file_order(own, c, own, a).unwrap().reverse());
        for wrong in [-1, 100_000] {
            let error = same_file(own, a, own, wrong).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    }

    #[test]
    fn threads_share_and_a_child_does_not() {
        if !available() {
            return;
        }
        let own = std::process::id() as i32;
        let tid = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            for kind in [Shared::Vm, Shared::Files, Shared::Fs, Shared::Sighand] {
                assert!(same(kind, own, tid).unwrap(), "{kind:?}");
            }
            tid
        });
        assert_ne!(tid.join().unwrap(), own);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        for kind in [Shared::Vm, Shared::Files, Shared::Fs, Shared::Sighand] {
            assert!(!same(kind, own, child.id() as i32).unwrap(), "{kind:?}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
