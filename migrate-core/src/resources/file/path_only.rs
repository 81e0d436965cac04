//! O_PATH descriptors of what is neither a regular file nor a directory: symbolic links, sockets, FIFOs, devices. Path and flags.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use bincode::{Decode, Encode};
use nix::libc::{O_PATH, S_IFDIR, S_IFMT, S_IFREG};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, open_again, or_instead};
use crate::error::{Doing, Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PathOnlyImage {
    path: Vec<u8>,
    flags: i32,
    /// S_IFLNK and so on.
    file_type: u32,
}

/// The kind.
pub enum PathOnly {}

impl FileKind for PathOnly {
    const NAME: &'static str = "place in the file system";
    const AHEAD: bool = true;
    const MOVES: &'static str = "O_PATH of a symbolic link, a socket, a FIFO, a device: path, flags";
    type Image = PathOnlyImage;

    fn recognise(view: &FileView) -> bool {
        view.info.flags as i32 & O_PATH != 0
            && !matches!(view.file_type(), S_IFREG | S_IFDIR)
            && matches!(view.link, LinkTarget::Path { .. })
    }

    fn preflight(view: &FileView) -> Verdict {
        match view.path() {
            Some(_) => Verdict::Supported,
            None => Verdict::Unsupported(format!(
                "fd {}: what it refers to (O_PATH) has been deleted; {}",
                view.number,
                or_instead(&[view.number])
            )),
        }
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<PathOnlyImage> {
        let view = &from.view;
        let path = view.path().ok_or_else(|| Error::Invalid(format!("fd {}: it has been deleted", view.number)))?;
        Ok(PathOnlyImage { path: path.as_bytes().to_vec(), flags: view.status_flags(), file_type: view.file_type() })
    }

    fn create(image: &PathOnlyImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = open_again(&image.path, image.flags | O_PATH)?;
        let here = nix::sys::stat::fstat(&fd).map_err(std::io::Error::from).doing(|| "stat a file".into())?;
        match here.st_mode & S_IFMT == image.file_type {
            true => Ok(fd),
            false => {
                Err(Error::Invalid(format!("{} is another kind of file here", String::from_utf8_lossy(&image.path))))
            }
        }
    }

    fn update(old: &PathOnlyImage, new: &PathOnlyImage, _fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        Ok(old == new)
    }
}
