//! Regular files without a name: deleted ones, ones that O_TMPFILE made, memfds; and those in /dev/shm. Each description: access mode, flags, offset. Of the
//! file: content and holes, size, permissions, owner, times, seals, name of a memfd; it stays one file for all that have it open or
//! mapped, and what O_TMPFILE made can still be given a name.
//!
//! The content travels with the pages (see [`crate::memory::unnamed`]); here are the descriptions.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bincode::{Decode, Encode};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW, O_PATH, O_TMPFILE, S_IFREG};

use super::kernel_file::is_of_the_kernel;
use super::unmovable::is_secret_memory;
use super::{CHANGEABLE, Content, FileKind, FileView, HeldFile, NewFiles, Others, open_again, seek_to, set_flags};
use crate::error::{Doing, Error, Result};
use crate::memory::posix_shm::leads_to;
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UnnamedImage {
    /// The number by which its content travels.
    content: u32,
    flags: i32,
    offset: i64,
}

/// The kind.
pub enum Unnamed {}

/// A description that made its file says so in its flags.
const MADE_IT: i32 = O_TMPFILE & !O_DIRECTORY;

/// Whether it is a file whose content travels: one to which no name leads, or in /dev/shm.
pub fn is_unnamed(view: &FileView) -> bool {
    Unnamed::recognise(view) && (view.stat.st_nlink == 0 || view.posix_shm)
}

impl FileKind for Unnamed {
    const NAME: &'static str = "file without a name";
    const AHEAD: bool = true;
    const MOVES: &'static str = "deleted files, O_TMPFILE, memfds: content, holes, size, permissions, owner, times, seals; flags and offset of each description";
    type Image = UnnamedImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFREG
            && match &view.link {
                LinkTarget::Memfd { .. } => true,
                LinkTarget::Path { .. } if view.posix_shm => true,
                LinkTarget::Path { path, deleted: true } => !is_of_the_kernel(path.as_bytes()),
                _ => false,
            }
            && !is_secret_memory(view)
    }

    fn preflight(view: &FileView) -> Verdict {
        match &view.link {
            // The name of one in /dev/shm is looked for where its content is (see [`crate::memory::posix_shm`]).
            LinkTarget::Path { path, .. } if view.stat.st_nlink != 0 && !view.posix_shm => {
                Verdict::Unsupported(format!(
                    "fd {}: {} has been deleted, and the file has another name that cannot be found; let the program open it by that",
                    view.number,
                    path.display()
                ))
            }
            _ => Verdict::Supported,
        }
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<UnnamedImage> {
        let number = from.view.number;
        let content = from.content.filter(|_| is_unnamed(&from.view));
        let content = content.ok_or_else(|| Error::Invalid(format!("fd {number}: the file has got a name")))?;
        Ok(UnnamedImage { content, flags: from.view.status_flags(), offset: from.view.info.pos })
    }

    fn create(image: &UnnamedImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let Content { file, first } = new
            .contents
            .get(&image.content)
            .ok_or_else(|| Error::Invalid(format!("a file whose content has no number {}", image.content)))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let fd = match first {
            Some(first) if image.flags & MADE_IT != 0 => duplicate(first)?,
            _ => match name_of(file, &path).filter(|_| image.flags & O_NOFOLLOW != 0) {
                // shm_open(3) sets O_NOFOLLOW, and the other path is a link.
                Some(name) => open_again(name.as_os_str().as_bytes(), image.flags)?,
                None => open_again(path.as_bytes(), image.flags & !(O_TMPFILE | O_NOFOLLOW))?,
            },
        };
        if image.flags & O_PATH == 0 {
            set_flags(&fd, image.flags & CHANGEABLE)?;
            seek_to(&fd, image.offset)?;
        }
        Ok(fd)
    }

    fn update(old: &UnnamedImage, new: &UnnamedImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        let changed = old.flags ^ new.flags;
        if old.content != new.content || changed & !CHANGEABLE != 0 {
            return Ok(false);
        }
        if changed != 0 {
            set_flags(fd, new.flags & CHANGEABLE)?;
        }
        if old.offset != new.offset && new.flags & O_PATH == 0 {
            seek_to(fd, new.offset)?;
        }
        Ok(true)
    }
}

/// The name of an open file that has one. `path`: the link to it.
fn name_of(file: &File, path: &str) -> Option<PathBuf> {
    let name = std::fs::read_link(path).ok()?;
    leads_to(&name, &file.metadata().ok()?).then_some(name)
}

fn duplicate(file: &File) -> Result<OwnedFd> {
    file.try_clone().map(OwnedFd::from).doing(|| "duplicate a descriptor".into())
}
