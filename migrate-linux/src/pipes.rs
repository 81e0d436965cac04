//! What is in a pipe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes that wait in a pipe (FIONREAD, pipe(7)).
pub fn bytes_waiting(pipe: &OwnedFd) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD stores one int.
    match unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut waiting) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(waiting as usize),
    }
}
