//! Files of the kernel, below /proc and /sys: path, flags, position. Those of a process are of the one that moves; over there its new
//! incarnation's are opened.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use bincode::{Decode, Encode};
use nix::libc::{O_PATH, S_IFREG};

use super::{CHANGEABLE, FileKind, FileView, HeldFile, NewFiles, Others, open_again, or_instead, seek_to, set_flags};
use crate::error::{Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KernelFileImage {
    place: Place,
    flags: i32,
    offset: i64,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Place {
    /// The same on every host.
    Path(Vec<u8>),
    /// Below the process's own directory in /proc; empty: that itself.
    OfItself(Vec<u8>),
}

/// Whether a path is below /proc or /sys.
pub fn is_of_the_kernel(path: &[u8]) -> bool {
    [&b"/proc"[..], b"/sys"]
        .iter()
        .any(|top| path.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
}

impl Place {
    /// Of a path that `process` has. Err: the process whose it is.
    pub fn of(process: i32, path: &[u8]) -> std::result::Result<Place, i32> {
        let Some(below) = path.strip_prefix(b"/proc/") else { return Ok(Place::Path(path.to_vec())) };
        let (first, rest) = match below.iter().position(|byte| *byte == b'/') {
            Some(end) => (&below[..end], &below[end + 1..]),
            None => (below, &b""[..]),
        };
        match std::str::from_utf8(first).ok().and_then(|first| first.parse::<i32>().ok()) {
            None => Ok(Place::Path(path.to_vec())),
            Some(pid) if pid == process => Ok(Place::OfItself(rest.to_vec())),
            Some(pid) => Err(pid),
        }
    }

    /// As a path on this host. `process`: the one that it is of, as this process sees it.
    pub fn path(&self, process: i32) -> Vec<u8> {
        match self {
            Place::Path(path) => path.clone(),
            Place::OfItself(rest) => [format!("/proc/{process}/").as_bytes(), rest].concat(),
        }
    }
}

/// What to say of one that is another process's.
pub fn of_another(view: &FileView, path: &[u8], pid: i32) -> String {
    let path = String::from_utf8_lossy(path);
    format!("fd {}: {path} is of process {pid}, which stays; {}", view.number, or_instead(&[view.number]))
}

/// The kind.
pub enum KernelFile {}

impl FileKind for KernelFile {
    const NAME: &'static str = "file of the kernel";
    const AHEAD: bool = true;
    const MOVES: &'static str = "in /proc (of the process itself, or of none) and /sys: path, flags, position";
    type Image = KernelFileImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFREG
            && matches!(&view.link, LinkTarget::Path { path, .. } if is_of_the_kernel(path.as_bytes()))
    }

    fn preflight(view: &FileView) -> Verdict {
        match view.path() {
            Some(_) => Verdict::Supported,
            None => Verdict::Unsupported(format!(
                "fd {}: a file of the kernel about what is gone; {}",
                view.number,
                or_instead(&[view.number])
            )),
        }
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        let path = from.view.path().unwrap_or_default().as_bytes();
        let place = Place::of(from.process.pid, path);
        Ok(place.map_or_else(|pid| Verdict::Unsupported(of_another(&from.view, path, pid)), |_| Verdict::Supported))
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<KernelFileImage> {
        let view = &from.view;
        let path = view.path().unwrap_or_default().as_bytes();
        let place =
            Place::of(from.process.pid, path).map_err(|pid| Error::Refused(vec![of_another(view, path, pid)]))?;
        Ok(KernelFileImage { place, flags: view.status_flags(), offset: view.info.pos })
    }

    fn create(image: &KernelFileImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = open_again(&image.place.path(new.process), image.flags)?;
        if image.flags & O_PATH == 0 && image.offset != 0 {
            seek_to(&fd, image.offset)?;
        }
        Ok(fd)
    }

    fn update(old: &KernelFileImage, new: &KernelFileImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        let changed = old.flags ^ new.flags;
        if old.place != new.place || changed & !CHANGEABLE != 0 {
            return Ok(false);
        }
        if changed != 0 {
            set_flags(fd, new.flags & CHANGEABLE)?;
        }
        if new.flags & O_PATH == 0 && old.offset != new.offset {
            seek_to(fd, new.offset)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let path = |path: &[u8]| Ok(Place::Path(path.to_vec()));
        assert_eq!(Place::of(42, b"/proc/meminfo"), path(b"/proc/meminfo"));
        assert_eq!(Place::of(42, b"/proc/sys/kernel/42"), path(b"/proc/sys/kernel/42"));
        assert_eq!(Place::of(42, b"/sys/42/x"), path(b"/sys/42/x"));
        assert_eq!(Place::of(42, b"/proc/42/task/42/stat"), Ok(Place::OfItself(b"task/42/stat".to_vec())));
        assert_eq!(Place::of(42, b"/proc/42"), Ok(Place::OfItself(Vec::new())));
        assert_eq!(Place::of(42, b"/proc/421/stat"), Err(421));
        assert_eq!(Place::OfItself(b"stat".to_vec()).path(7), b"/proc/7/stat");
        assert!(is_of_the_kernel(b"/proc") && is_of_the_kernel(b"/sys/x") && !is_of_the_kernel(b"/system"));
    }
}
