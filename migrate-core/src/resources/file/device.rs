//! Character devices that are the same everywhere and keep nothing for their openers: null, zero, full, random, urandom. Their flags move.
//! And kmsg, the kernel's log: who reads it goes on with what the other kernel says from then on.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use bincode::{Decode, Encode};
use nix::libc::{O_ACCMODE, O_PATH, O_WRONLY, S_IFBLK, S_IFCHR};
use nix::sys::stat::{major, minor};
use nix::unistd::{Whence, lseek};

use super::tty::Tty;
use super::{
    FileKind, FileView, HeldFile, NewFiles, Others, flags_now, open_again, or_instead, set_flags, terminal_in,
};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeviceImage {
    path: Vec<u8>,
    flags: i32,
    /// Minor number; the major one is 1 (memory devices, Documentation/admin-guide/devices.txt).
    minor: u64,
}

/// The kind.
pub enum Device {}

const MEMORY_DEVICES: u64 = 1;
const SUPPORTED: [u64; 6] = [3, 5, 7, 8, 9, KMSG];
const KMSG: u64 = 11;

impl FileKind for Device {
    const NAME: &'static str = "device";
    const AHEAD: bool = true;
    const MOVES: &'static str =
        "/dev/null, zero, full, random, urandom; /dev/kmsg, read on from what is said after the move; no others";
    type Image = DeviceImage;

    fn recognise(view: &FileView) -> bool {
        matches!(view.file_type(), S_IFCHR | S_IFBLK)
            && view.info.flags as i32 & O_PATH == 0
            && terminal_in(view).is_none()
            && !Tty::recognise(view)
    }

    fn preflight(view: &FileView) -> Verdict {
        let device = view.stat.st_rdev;
        if view.file_type() == S_IFCHR
            && major(device) == MEMORY_DEVICES
            && SUPPORTED.contains(&minor(device))
            && view.path().is_some()
        {
            let reads = view.info.flags as i32 & O_ACCMODE != O_WRONLY;
            return match minor(device) == KMSG && reads {
                true => Verdict::With(format!(
                    "fd {}: /dev/kmsg is the kernel's log: what it has not read of this one's is lost to it, and it goes on with the other's",
                    view.number
                )),
                false => Verdict::Supported,
            };
        }
        let name = view.path().map_or("a device".into(), |p| p.display().to_string());
        let terminal = matches!(major(device), 4 | 5 | 136..=143);
        let what = if terminal { "terminals cannot move yet" } else { "devices cannot move" };
        Verdict::Unsupported(format!("fd {}: {name} — {what}; {}", view.number, or_instead(&[view.number])))
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<DeviceImage> {
        let path = from.view.path().ok_or_else(|| Error::Invalid("a device without a path".into()))?;
        Ok(DeviceImage {
            path: path.as_bytes().to_vec(),
            flags: flags_now(from)?,
            minor: minor(from.view.stat.st_rdev),
        })
    }

    fn create(image: &DeviceImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = open_again(&image.path, image.flags)?;
        let is_it = nix::sys::stat::fstat(&fd).is_ok_and(|s| {
            s.st_mode & nix::libc::S_IFMT == S_IFCHR
                && (major(s.st_rdev), minor(s.st_rdev)) == (MEMORY_DEVICES, image.minor)
        });
        match is_it {
            true if image.minor == KMSG && image.flags & O_ACCMODE != O_WRONLY => {
                let to_end = lseek(&fd, 0, Whence::SeekEnd).map_err(Into::into);
                to_end.doing(|| "go to the end of /dev/kmsg".into()).map(|_| fd)
            }
            true => Ok(fd),
            false => Err(Error::Invalid(format!("{} is another device here", String::from_utf8_lossy(&image.path)))),
        }
    }

    fn update(old: &DeviceImage, new: &DeviceImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        if (&old.path, old.minor) != (&new.path, new.minor) || new.minor == KMSG {
            return Ok(false);
        }
        if old.flags != new.flags {
            set_flags(fd, new.flags)?;
        }
        Ok(true)
    }
}
