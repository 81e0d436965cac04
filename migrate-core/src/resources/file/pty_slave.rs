//! Slaves of pseudo terminals (pty(7)), whose masters the process has: by number, with exclusive mode and flags; each opened on its own. What
//! the terminal is for both ends moves with its master.

use std::fs::metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use bincode::{Decode, Encode};
use migrate_linux::{libc, pty};
use nix::sys::stat::{major, minor};

use super::pty_master::{SLAVES, made, name, nothing_unread, open_slave};
use super::{FileKind, FileView, HeldFile, NewFiles, Others, or_instead, set_flags};
use crate::error::{Doing, Result};
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PtySlaveImage {
    number: u32,
    flags: i32,
    exclusive: bool,
}

impl PtySlaveImage {
    /// Of a terminal's number, the description's flags, and whether it may not be opened again.
    pub fn new(number: u32, flags: i32, exclusive: bool) -> PtySlaveImage {
        PtySlaveImage { number, flags, exclusive }
    }

    /// The description's flags.
    pub fn flags(&self) -> i32 {
        self.flags
    }
}

/// The kind.
pub enum PtySlave {}

impl FileKind for PtySlave {
    const NAME: &'static str = "terminal (/dev/pts/N)";
    const MOVES: &'static str =
        "of a pseudo terminal whose master is in the process too: number, exclusive mode, flags";
    type Image = PtySlaveImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == libc::S_IFCHR && major(view.stat.st_rdev) == SLAVES
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        let FileView { number: fd, stat, .. } = &from.view;
        let name = name(minor(stat.st_rdev) as u32);
        let why = if metadata(&name).map_or(true, |there| (there.dev(), there.ino()) != (stat.st_dev, stat.st_ino)) {
            "is of another devpts than the one at /dev/pts"
        } else if pty::settings(&from.duplicate).is_err() {
            "has been hung up: its master is closed"
        } else {
            return Ok(Verdict::Supported);
        };
        Ok(Verdict::Unsupported(format!("fd {fd}: terminal {name} {why}; {}", or_instead(&[*fd]))))
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<PtySlaveImage> {
        nothing_unread(from, others)?;
        let FileView { number: fd, stat, .. } = &from.view;
        let exclusive = pty::is_exclusive(&from.duplicate).doing(|| format!("read the terminal of descriptor {fd}"))?;
        Ok(PtySlaveImage { number: minor(stat.st_rdev) as u32, flags: from.view.status_flags(), exclusive })
    }

    fn create(image: &PtySlaveImage, new: &mut NewFiles) -> Result<OwnedFd> {
        // Its master may come after it.
        drop(made(image.number, new)?);
        let fd = open_slave(image.number, image.flags)?;
        set_flags(&fd, image.flags)?;
        if image.exclusive {
            pty::make_exclusive(&fd).doing(|| format!("set up terminal {}", image.number))?;
        }
        Ok(fd)
    }
}
