//! Regular files: path, access mode and flags (O_APPEND, O_NONBLOCK, O_DIRECT, O_SYNC, O_NOATIME, O_PATH), offset. The content does
//! not travel: the same file must be there. Files without a name are another kind.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use bincode::{Decode, Encode};
use nix::libc::{O_ACCMODE, O_PATH, O_RDONLY, S_IFREG};

use super::kernel_file::is_of_the_kernel;
use super::{
    CHANGEABLE, FileKind, FileView, HeldFile, NewFiles, ONLY_WHEN_OPENING, Others, open_again, seek_to, set_flags,
};
use crate::error::{Doing, Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RegularImage {
    path: Vec<u8>,
    flags: i32,
    offset: i64,
    /// Device and inode, by which hosts with one kernel know a file that they share.
    inode: (u64, u64),
    /// Bytes in it when the process stood still.
    size: i64,
    /// When it was changed last, seconds and nanoseconds: the same there, when the process may write it.
    mtime: (i64, i64),
}

/// The kind.
pub enum Regular {}

impl FileKind for Regular {
    const NAME: &'static str = "regular file";
    const AHEAD: bool = true;
    const MOVES: &'static str =
        "path, access mode, flags, offset (shared by dup); the same file must be at the destination";
    type Image = RegularImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFREG
            && !view.posix_shm
            && view.path().is_some_and(|path| !is_of_the_kernel(path.as_bytes()))
    }

    fn preflight(view: &FileView) -> Verdict {
        let number = view.number;
        match &view.link {
            LinkTarget::Path { path, .. } => match nix::sys::stat::stat(path.as_os_str()) {
                Ok(named) if (named.st_dev, named.st_ino) == (view.stat.st_dev, view.stat.st_ino) => Verdict::Supported,
                Ok(_) => Verdict::Unsupported(format!(
                    "fd {number}: {} is another file by now — the open one has no name of its own and cannot move yet",
                    path.display()
                )),
                Err(e) => Verdict::Unsupported(format!("fd {number}: {}: {e}", path.display())),
            },
            _ => Verdict::Unsupported(format!("fd {number}: a file without a path")),
        }
    }

    fn needs(view: &FileView) -> Option<&OsStr> {
        view.path()
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<RegularImage> {
        let path = from
            .view
            .path()
            .ok_or_else(|| Error::Invalid(format!("fd {}: the file lost its name", from.view.number)))?;
        let stat = &from.view.stat;
        let mtime = (stat.st_mtime, stat.st_mtime_nsec);
        Ok(RegularImage {
            path: path.as_bytes().to_vec(),
            flags: from.view.status_flags(),
            offset: from.view.info.pos,
            inode: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            mtime,
        })
    }

    fn create(image: &RegularImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = open_again(&image.path, image.flags & !ONLY_WHEN_OPENING)?;
        check(image, &fd, new)?;
        if image.flags & O_PATH == 0 {
            seek_to(&fd, image.offset)?;
        }
        Ok(fd)
    }

    fn update(old: &RegularImage, new: &RegularImage, fd: &OwnedFd, files: &NewFiles) -> Result<bool> {
        let changed = old.flags ^ new.flags;
        if old.path != new.path || changed & !CHANGEABLE != 0 {
            return Ok(false);
        }
        if changed != 0 {
            set_flags(fd, new.flags)?;
        }
        check(new, fd, files)?;
        if old.offset != new.offset {
            seek_to(fd, new.offset)?;
        }
        Ok(true)
    }
}

/// Err: it is not the file that the process has.
fn check(image: &RegularImage, fd: &OwnedFd, new: &NewFiles) -> Result<()> {
    if image.flags & O_PATH != 0 {
        return Ok(());
    }
    let there = nix::sys::stat::fstat(fd).map_err(std::io::Error::from).doing(|| "stat a file".into())?;
    let is_it = new.same_kernel && image.inode == (there.st_dev, there.st_ino);
    let written = image.flags & O_ACCMODE != O_RDONLY;
    let differs = match (there.st_size, (there.st_mtime, there.st_mtime_nsec)) {
        // Others may be writing it as well, or the process itself still is.
        _ if is_it || !new.frozen => String::new(),
        (size, _) if size != image.size => format!("has {} bytes there and {size} here", image.size),
        (_, mtime) if written && mtime != image.mtime => "was last changed at another time than there".into(),
        _ => String::new(),
    };
    if differs.is_empty() {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&image.path);
    Err(Error::Invalid(format!("{path}, which the process has open, {differs}; the hosts must share the file")))
}
