//! signalfd(2) with the kernel's own signal sets: bit N−1 is signal N, real-time ones included.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Makes one, close-on-exec.
///
/// # Errors
/// Those of signalfd(2).
pub fn make(mask: u64) -> io::Result<OwnedFd> {
    let fd = signalfd(-1, mask, libc::SFD_CLOEXEC)?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Changes which signals one accepts.
///
/// # Errors
/// `EINVAL` when it is no signalfd.
pub fn set_mask(fd: &OwnedFd, mask: u64) -> io::Result<()> {
    signalfd(fd.as_raw_fd(), mask, 0).map(drop)
}

fn signalfd(fd: i32, mask: u64, flags: i32) -> io::Result<i32> {
    // SAFETY: the kernel reads eight bytes of `mask`, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_signalfd4, fd, &raw const mask, size_of::<u64>(), flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
