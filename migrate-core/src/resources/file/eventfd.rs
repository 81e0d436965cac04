//! eventfd(2): the 64-bit counter, EFD_SEMAPHORE, flags.

use std::io::Write;
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd as NixEventFd};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, as_file, flags_now};
use crate::error::{Doing, Error, Result};
use crate::proc::fdinfo::read_fdinfo;
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
        use std::os::fd::AsRawFd;
        // Of the agent's duplicate: the counter is the description's.
        let number = from.view.number;
        let info = read_fdinfo(std::process::id() as i32, from.duplicate.as_raw_fd())
            .doing(|| format!("read descriptor {number}"))?;
        let info = info.eventfd().ok().flatten().ok_or_else(|| Error::Invalid(format!("fd {number}: no eventfd")))?;
        Ok(EventFdImage { count: info.count, semaphore: info.semaphore.unwrap_or(false), flags: flags_now(from)? })
    }

    fn create(image: &EventFdImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let mut kind = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        kind.set(EfdFlags::EFD_SEMAPHORE, image.semaphore);
        let made = NixEventFd::from_value_and_flags(0, kind).map_err(Into::into).doing(|| "make an eventfd".into())?;
        let fd = OwnedFd::from(made);
        if image.count != 0 {
            as_file(&fd)?
                .write_all(&image.count.to_ne_bytes())
                .doing(|| format!("set an eventfd to {}", image.count))?;
        }
        let flags = OFlag::from_bits_truncate(image.flags);
        fcntl(&fd, FcntlArg::F_SETFL(flags)).map_err(Into::into).doing(|| "set an eventfd's flags".into())?;
        Ok(fd)
    }
}
