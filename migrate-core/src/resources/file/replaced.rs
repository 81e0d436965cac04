//! What the operator puts in the place of a descriptor (`--fd`): another end of it stays, or it cannot move.
//!
//! What was open stays open here and is not touched. There the number leads to `/dev/null`, or to a file: with the access mode and
//! O_NONBLOCK that the original has; what is written goes to the file's end. One that is made belongs to the process's user.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bincode::{Decode, Encode};
use nix::fcntl::{OFlag, open};
use nix::libc::{O_ACCMODE, O_NONBLOCK, O_RDONLY};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown};

use super::{FileKind, FileView, HeldFile, NewFiles, Others};
use crate::error::{Doing, Error, Result};
use crate::plan::Instead;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplacedImage {
    path: Vec<u8>,
    /// Access mode and O_NONBLOCK.
    flags: i32,
    /// Made if it is not there, for this user and group.
    owner: Option<(u32, u32)>,
}

/// The kind.
pub enum Replaced {}

impl ReplacedImage {
    /// For what is here at that place. None: nothing is to be there.
    pub fn new(instead: &Instead, view: &FileView, owner: (u32, u32)) -> Option<ReplacedImage> {
        let flags = view.info.flags as i32 & (O_ACCMODE | O_NONBLOCK);
        let (path, owner) = match instead {
            Instead::Close => return None,
            Instead::Null => (b"/dev/null".to_vec(), None),
            Instead::File(path) => (path.clone(), Some(owner)),
        };
        Some(ReplacedImage { path, flags, owner })
    }
}

impl FileKind for Replaced {
    const NAME: &'static str = "replaced descriptor";
    const AHEAD: bool = true;
    const MOVES: &'static str = "left behind with `--fd`: there it is closed, `/dev/null`, or a file";
    type Image = ReplacedImage;

    fn recognise(_view: &FileView) -> bool {
        // It is what the operator says, whatever it looks like.
        false
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn capture(_from: &HeldFile, _others: &Others<'_>) -> Result<ReplacedImage> {
        Err(Error::Invalid("a replaced descriptor is not read".into()))
    }

    fn create(image: &ReplacedImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let path = Path::new(std::ffi::OsStr::from_bytes(&image.path));
        let mut flags = OFlag::from_bits_truncate(image.flags & (O_ACCMODE | O_NONBLOCK));
        if image.flags & O_ACCMODE != O_RDONLY {
            flags |= OFlag::O_APPEND;
        }
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let doing = || format!("open {} in the place of a descriptor (--fd)", path.display());
        let Some((user, group)) = image.owner.filter(|_| image.flags & O_ACCMODE != O_RDONLY) else {
            return open(path, flags, Mode::empty()).map_err(Into::into).doing(doing);
        };
        match open(path, flags | OFlag::O_CREAT | OFlag::O_EXCL, Mode::from_bits_truncate(0o644)) {
            Ok(made) => {
                let given = fchown(&made, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
                given.map_err(Into::into).doing(|| format!("give {} to user {user}", path.display()))?;
                Ok(made)
            }
            Err(nix::errno::Errno::EEXIST) => open(path, flags, Mode::empty()).map_err(Into::into).doing(doing),
            Err(error) => Err(error.into()).doing(doing),
        }
    }

    fn update(old: &ReplacedImage, new: &ReplacedImage, _fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        Ok(old == new)
    }
}
