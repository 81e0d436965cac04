//! What the kernel offers for making timers of timerfd_create(2) again.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `TFD_IOC_SET_TICKS` (linux/timerfd.h): `_IOW('T', 0, __u64)`.
const TFD_IOC_SET_TICKS: libc::c_ulong = 0x4008_5400;

/// Sets how many expirations of a timerfd wait to be read; not 0.
///
/// # Errors
/// `EINVAL` for 0, `ENOTTY` on a kernel without CONFIG_CHECKPOINT_RESTORE.
pub fn set_ticks(timer: &OwnedFd, ticks: u64) -> io::Result<()> {
    // SAFETY: it reads one u64, which outlives the call.
    match unsafe { libc::ioctl(timer.as_raw_fd(), TFD_IOC_SET_TICKS, &raw const ticks) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
