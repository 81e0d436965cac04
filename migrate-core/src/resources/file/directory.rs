//! Directories: path, flags, position in the listing (a file system's own cookie: right where both hosts share the directory, else
//! the listing goes on at a place that the other file system chooses).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use bincode::{Decode, Encode};
use nix::libc::{O_DIRECTORY, O_PATH, S_IFDIR};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, flags_now, offset, open_again, seek_to};
use crate::error::{Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryImage {
    path: Vec<u8>,
    flags: i32,
    offset: i64,
}

/// The kind.
pub enum Directory {}

impl FileKind for Directory {
    const NAME: &'static str = "directory";
    const AHEAD: bool = true;
    const MOVES: &'static str = "path, flags, position";
    type Image = DirectoryImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFDIR
    }

    fn preflight(view: &FileView) -> Verdict {
        match &view.link {
            LinkTarget::Path { path, deleted: false } if !path.as_bytes().starts_with(b"/proc/") => Verdict::Supported,
            LinkTarget::Path { path, deleted: false } => Verdict::Unsupported(format!(
                "fd {}: {} — directories of /proc cannot move yet",
                view.number,
                path.display()
            )),
            _ => Verdict::Unsupported(format!(
                "fd {}: a deleted directory cannot move yet; let the program close it",
                view.number
            )),
        }
    }

    fn needs(view: &FileView) -> Option<&OsStr> {
        view.path()
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<DirectoryImage> {
        let path = from
            .view
            .path()
            .ok_or_else(|| Error::Invalid(format!("fd {}: the directory was deleted", from.view.number)))?;
        let flags = flags_now(from)? | from.view.status_flags() & (O_PATH | O_DIRECTORY);
        let offset = if flags & O_PATH != 0 { 0 } else { offset(from)? };
        Ok(DirectoryImage { path: path.as_bytes().to_vec(), flags, offset })
    }

    fn create(image: &DirectoryImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = open_again(&image.path, image.flags | O_DIRECTORY)?;
        if image.flags & O_PATH == 0 && image.offset != 0 {
            seek_to(&fd, image.offset)?;
        }
        Ok(fd)
    }

    fn update(old: &DirectoryImage, new: &DirectoryImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        if (&old.path, old.flags) != (&new.path, new.flags) {
            return Ok(false);
        }
        if new.flags & O_PATH == 0 && old.offset != new.offset {
            seek_to(fd, new.offset)?;
        }
        Ok(true)
    }
}
