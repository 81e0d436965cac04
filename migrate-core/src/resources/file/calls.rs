//! Calls on descriptions that several kinds make.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::HeldFile;
use crate::error::{Doing, Result};

/// Which of these events, or errors and hang-ups, wait on one now (poll(2)).
pub(super) fn polled(fd: &OwnedFd, events: PollFlags) -> std::io::Result<PollFlags> {
    let mut asked = [PollFd::new(fd, events)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once))?;
    let [asked] = asked;
    Ok(asked.revents())
}

/// The same, as epoll(7) has them.
pub(super) fn ready_for(fd: &OwnedFd, events: u32) -> Result<u32> {
    let ready = polled(fd, PollFlags::from_bits_retain(events as u16)).doing(|| "poll a descriptor".into())?;
    Ok(u32::from(ready.bits()))
}

/// Flags that act when a file is opened, or belong to a descriptor.
pub(super) const ONLY_WHEN_OPENING: i32 = {
    use nix::libc::{O_CLOEXEC, O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC};
    O_CLOEXEC | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC
};

/// Opens a path of an image with the flags that the original has now.
pub(super) fn open_again(path: &[u8], flags: i32) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::OsStr::from_bytes(path);
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    open(path, flags, Mode::empty()).map_err(Into::into).doing(|| format!("open {}", path.display()))
}

/// Sets the status flags that can be set on an open file.
pub(super) fn set_flags(fd: &OwnedFd, flags: i32) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let set = fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags))).map_err(Into::into);
    set.doing(|| "set the flags of a descriptor".into()).map(drop)
}

/// Flags that fcntl can change later (fcntl(2), F_SETFL).
pub(super) const CHANGEABLE: i32 = {
    use nix::libc::{O_APPEND, O_DIRECT, O_NOATIME, O_NONBLOCK};
    O_APPEND | O_DIRECT | O_NOATIME | O_NONBLOCK
};

/// The present offset of a duplicate, in bytes.
pub(super) fn offset(held: &HeldFile) -> Result<i64> {
    use nix::unistd::{Whence, lseek};
    let at = lseek(&held.duplicate, 0, Whence::SeekCur).map_err(Into::into);
    at.doing(|| format!("read the offset of descriptor {}", held.view.number))
}

/// Sets the offset of a new description.
pub(super) fn seek_to(fd: &OwnedFd, offset: i64) -> Result<()> {
    use nix::unistd::{Whence, lseek};
    lseek(fd, offset, Whence::SeekSet).map_err(Into::into).doing(|| format!("seek to {offset}")).map(drop)
}

/// The status flags of a duplicate as they are now, without O_ASYNC (see [`owner`](super::owner)).
pub(super) fn flags_now(held: &HeldFile) -> Result<i32> {
    use nix::fcntl::{FcntlArg, fcntl};
    let flags = fcntl(&held.duplicate, FcntlArg::F_GETFL).map_err(Into::into);
    let flags = flags.doing(|| format!("read the flags of descriptor {}", held.view.number))?;
    Ok(flags & !nix::libc::O_ASYNC)
}

/// Opens the same pipe or device again through /proc, as a description of its own.
pub(super) fn reopen(fd: &OwnedFd, flags: i32) -> Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    open_again(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes(), flags)
}

/// A descriptor as a File, for reading and writing.
pub(super) fn as_file(fd: &OwnedFd) -> Result<File> {
    fd.try_clone().map(File::from).doing(|| "duplicate a descriptor".into())
}
