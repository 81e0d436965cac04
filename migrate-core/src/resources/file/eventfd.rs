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
    const MOVES: &'static str = "64-bit counter, semaphore mode, flags";
    const AHEAD: bool = true;
    type Image = EventFdImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"eventfd")
    }

    fn preflight(view: &FileView) -> Verdict {
        match view.info.eventfd() {
            Ok(Some(info)) if info.semaphore.is_none() => Verdict::With(format!(
                "fd {}: this kernel does not tell whether an eventfd is a semaphore (Linux 6.5 does); it is taken for none",
                view.number
            )),
            _ => Verdict::Supported,
        }
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<EventFdImage> {
        let FileView { number, info, .. } = &from.view;
        let told = info.eventfd().ok().flatten().ok_or_else(|| Error::Invalid(format!("fd {number}: no eventfd")))?;
        let semaphore = told.semaphore.unwrap_or(false);
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

impl EventFdImage {
    /// Of one that has counted nothing yet.
    fn set(&self, fd: &OwnedFd) -> Result<()> {
        if self.count != 0 {
            as_file(fd)?.write_all(&self.count.to_ne_bytes()).doing(|| format!("set an eventfd to {}", self.count))?;
        }
        set_flags(fd, self.flags)
    }
}
