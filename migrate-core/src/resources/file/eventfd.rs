//! eventfd(2): the 64-bit counter, EFD_SEMAPHORE, flags.

use std::io::Write;
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use nix::sys::eventfd::{EfdFlags, EventFd as NixEventFd};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, as_file, set_flags};
use crate::error::{Doing, Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventFdImage {
    count: u64,
    semaphore: bool,
    flags: i32,
}

/// The kind.
pub enum EventFd {}

impl FileKind for EventFd {
    const NAME: &'static str = "eventfd";
    const MOVES: &'static str = "64-bit counter, semaphore mode (from Linux before 6.5 with the eBPF probes), flags";
    const AHEAD: bool = true;
    type Image = EventFdImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"eventfd")
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<EventFdImage> {
        let FileView { number, info, semaphore, .. } = &from.view;
        let told = info.eventfd().ok().flatten().ok_or_else(|| Error::Invalid(format!("fd {number}: no eventfd")))?;
        let untold = || Error::Invalid(format!("fd {number}: nobody has told whether it is a semaphore"));
        let semaphore = told.semaphore.or(*semaphore).ok_or_else(untold)?;
        Ok(EventFdImage { count: told.count, semaphore, flags: from.view.status_flags() })
    }

    fn create(image: &EventFdImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let mut kind = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        kind.set(EfdFlags::EFD_SEMAPHORE, image.semaphore);
        let made = NixEventFd::from_value_and_flags(0, kind).map_err(Into::into).doing(|| "make an eventfd".into())?;
        let fd = OwnedFd::from(made);
        image.set(&fd)?;
        Ok(fd)
    }

    fn update(old: &EventFdImage, new: &EventFdImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        if old.semaphore != new.semaphore || (new.semaphore && old.count != new.count) {
            return Ok(false);
        }
        if old.count != new.count && old.count != 0 {
            let taken = nix::unistd::read(fd, &mut [0; 8]).map_err(Into::into);
            taken.doing(|| "set an eventfd".into())?;
        }
        let count = if old.count == new.count { 0 } else { new.count };
        EventFdImage { count, ..*new }.set(fd)?;
        Ok(true)
    }
}

/// Whether it is an eventfd of which it is not known yet whether it is a semaphore: fdinfo does not tell before Linux 6.5.
pub fn is_untold(view: &FileView) -> bool {
    let untold = || matches!(view.info.eventfd(), Ok(Some(info)) if info.semaphore.is_none());
    view.semaphore.is_none() && EventFd::recognise(view) && untold()
}

impl EventFdImage {
    /// Of one that has counted nothing yet.
    fn set(&self, fd: &OwnedFd) -> Result<()> {
        if self.count != 0 {
            as_file(fd)?.write_all(&self.count.to_ne_bytes()).doing(|| format!("set an eventfd to {}", self.count))?;
        }
        set_flags(fd, self.flags)
    }
}
