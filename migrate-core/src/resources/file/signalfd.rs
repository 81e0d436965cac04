//! signalfd(2): which signals are read from it, flags. The signals that wait belong to the process and its threads, and move with these.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::signalfd;

use super::{FileKind, FileView, HeldFile, NewFiles, Others, set_flags};
use crate::error::{Doing, Error, Result};
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignalFdImage {
    mask: u64,
    flags: i32,
}

/// The kind.
pub enum SignalFd {}

impl FileKind for SignalFd {
    const NAME: &'static str = "signalfd";
    const MOVES: &'static str = "which signals it gives, flags; signals that wait are read over there";
    const AHEAD: bool = true;
    type Image = SignalFdImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"signalfd")
    }

    fn preflight(view: &FileView) -> Verdict {
        match mask(&view.info) {
            Some(_) => Verdict::Supported,
            None => Verdict::Unsupported(format!(
                "fd {}: a signalfd that is not understood; have the program close it",
                view.number
            )),
        }
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<SignalFdImage> {
        let FileView { number, info, .. } = &from.view;
        let mask = mask(info).ok_or_else(|| Error::Invalid(format!("fd {number}: no signalfd")))?;
        Ok(SignalFdImage { mask, flags: from.view.status_flags() })
    }

    fn create(image: &SignalFdImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = signalfd::make(image.mask).doing(|| "make a signalfd".into())?;
        set_flags(&fd, image.flags)?;
        Ok(fd)
    }

    fn update(old: &SignalFdImage, new: &SignalFdImage, fd: &OwnedFd, _files: &NewFiles) -> Result<bool> {
        if old != new {
            signalfd::set_mask(fd, new.mask).doing(|| "set the signals of a signalfd".into())?;
            set_flags(fd, new.flags)?;
        }
        Ok(true)
    }
}

/// In hexadecimal (fs/signalfd.c `signalfd_show_fdinfo`).
fn mask(info: &FdInfo) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(info.extra("sigmask")?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::fdinfo::parse_fdinfo;

    #[test]
    fn the_line_is_understood() {
        let info = |text: &str| parse_fdinfo(text.as_bytes()).expect("fdinfo");
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\nsigmask:\t8000000000000200\n";
        assert_eq!(mask(&info(text)), Some(1 << 63 | 1 << 9));
        assert_eq!(mask(&info(&text.replace("0200", "x"))), None);
    }
}
