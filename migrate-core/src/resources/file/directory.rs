//! Directories, deleted ones too (with owner and permissions), and those of /proc that are the process's own: path, flags, position in the listing (a file system's own cookie: right where both hosts share the directory, else
//! the listing goes on at a place that the other file system chooses).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc::{O_DIRECTORY, O_PATH, S_IFDIR, S_IFMT};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::kernel_file::{Place, is_of_the_kernel, of_another};
use super::{FileKind, FileView, HeldFile, NewFiles, Others, flags_now, offset, open_again, or_instead, seek_to};
use crate::error::{Doing, Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryImage {
    place: Place,
    flags: i32,
    offset: i64,
    /// It has been deleted.
    deleted: Option<Deleted>,
}

/// What a directory is that has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Deleted {
    mode: u32,
    owner: (u32, u32),
}

/// The kind.
pub enum Directory {}

impl FileKind for Directory {
    const NAME: &'static str = "directory";
    const AHEAD: bool = true;
    const MOVES: &'static str = "path, flags, position; deleted ones with owner and permissions; in /proc those of the process itself or of none";
    type Image = DirectoryImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFDIR
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        Ok(place(from).map_or_else(Verdict::Unsupported, |_| Verdict::Supported))
    }

    fn needs(view: &FileView) -> Option<&OsStr> {
        view.path().filter(|path| !is_of_the_kernel(path.as_bytes()))
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<DirectoryImage> {
        let place = place(from).map_err(|why| Error::Refused(vec![why]))?;
        let flags = flags_now(from)? | from.view.status_flags() & (O_PATH | O_DIRECTORY);
        let stat = &from.view.stat;
        let deleted = from.view.path().is_none();
        let deleted = deleted.then_some(Deleted { mode: stat.st_mode & 0o7777, owner: (stat.st_uid, stat.st_gid) });
        let offset = if flags & O_PATH != 0 || deleted.is_some() { 0 } else { offset(from)? };
        Ok(DirectoryImage { place, flags, offset, deleted })
    }

    fn create(image: &DirectoryImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let path = image.place.path(new.process);
        if let Some(deleted) = image.deleted {
            let path = Path::new(OsStr::from_bytes(&path));
            let made = make_deleted(path, image.flags, deleted).map_err(Into::into);
            return made.doing(|| format!("make {} and delete it", path.display()));
        }
        // Not with O_DIRECTORY: the flags show it.
        let fd = open_again(&path, image.flags)?;
        let here = fstat(&fd).map_err(std::io::Error::from).doing(|| "stat a directory".into())?;
        if here.st_mode & S_IFMT != S_IFDIR {
            return Err(Error::Invalid(format!("{} is no directory here", String::from_utf8_lossy(&path))));
        }
        if image.flags & O_PATH == 0 && image.offset != 0 {
            seek_to(&fd, image.offset)?;
        }
        Ok(fd)
    }

    fn update(old: &DirectoryImage, new: &DirectoryImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        if (&old.place, old.flags, old.deleted) != (&new.place, new.flags, new.deleted) {
            return Ok(false);
        }
        if new.flags & O_PATH == 0 && old.offset != new.offset {
            seek_to(fd, new.offset)?;
        }
        Ok(true)
    }
}

/// Where it is, or was. Err: it cannot move, in words.
fn place(from: &HeldFile) -> std::result::Result<Place, String> {
    let LinkTarget::Path { path, .. } = &from.view.link else {
        return Err(format!(
            "fd {}: a directory without a path; {}",
            from.view.number,
            or_instead(&[from.view.number])
        ));
    };
    Place::of(from.process.pid, path.as_bytes()).map_err(|pid| of_another(&from.view, path.as_bytes(), pid))
}

/// Makes a directory where the original was, of its name if no other has that, and deletes it.
fn make_deleted(path: &Path, flags: i32, deleted: Deleted) -> nix::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::ENOENT) };
    let parent = open(parent, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let other = format!(".{}.{}", name.display(), std::process::id());
    let other = OsStr::new(&other);
    let name = match mkdirat(&parent, name, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => mkdirat(&parent, other, Mode::S_IRWXU).map(|()| other)?,
        made => made.map(|()| name)?,
    };
    let of_it =
        |flags| openat(&parent, name, flags | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    let opened = of_it(OFlag::empty()).and_then(|directory| {
        fchown(&directory, Some(Uid::from_raw(deleted.owner.0)), Some(Gid::from_raw(deleted.owner.1)))?;
        fchmod(&directory, Mode::from_bits_truncate(deleted.mode))?;
        openat(&parent, name, OFlag::from_bits_truncate(flags) | OFlag::O_CLOEXEC, Mode::empty())
    });
    unlinkat(&parent, name, UnlinkatFlags::RemoveDir)?;
    opened
}
