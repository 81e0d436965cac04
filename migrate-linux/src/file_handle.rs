//! Files by handle: open_by_handle_at(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Bytes of a handle at most (`MAX_HANDLE_SZ`).
pub const LONGEST: usize = 128;

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; LONGEST],
}

/// Opens (O_PATH) the file that a handle is of. `mount`: anything open in its file system, through whose mount it is seen.
///
/// # Errors
/// `ESTALE` when it is gone, `EPERM` without `CAP_DAC_READ_SEARCH`, `EOPNOTSUPP` or `EINVAL` where the file system has none, or the
/// handle is too long.
pub fn open(mount: &impl AsFd, kind: i32, handle: &[u8]) -> io::Result<OwnedFd> {
    let mut given = FileHandle { bytes: handle.len() as u32, kind, handle: [0; LONGEST] };
    let room = given.handle.get_mut(..handle.len()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    room.copy_from_slice(handle);
    let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the kernel reads the structure, of which `bytes` are filled in, and it outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_fd().as_raw_fd(), (&raw const given).cast::<u8>(), flags)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
