//! pidfd_open(2): of the process itself, of one of its threads (PIDFD_THREAD), of a process that has ended, with the status that it ended
//! with where the kernel tells; flags. One of a process that stays is refused.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::pidfd::{self, PidFd as LinuxPidFd};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, or_instead, set_flags};
use crate::error::{Doing, Error, Result};
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;
use crate::proc::listing::name_of;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PidFdImage {
    of: Who,
    flags: i32,
}

/// Whom it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
enum Who {
    /// The process that has it.
    Itself,
    /// A thread of that process, by its ID in its own PID namespace.
    Thread(i32),
    /// Nobody any more: how it ended, as wait(2) tells it.
    Ended { status: i32 },
}

/// The kind.
pub enum PidFd {}

/// Set for good when it is made (linux/pidfd.h).
const PIDFD_THREAD: i32 = libc::O_EXCL;

impl FileKind for PidFd {
    const NAME: &'static str = "pidfd";
    const MOVES: &'static str = "of the process itself, of its threads, and of processes that have ended; flags";
    type Image = PidFdImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"pidfd")
    }

    fn preflight(view: &FileView) -> Verdict {
        match Shown::parse(&view.info) {
            Some(_) => Verdict::Supported,
            None => Verdict::Unsupported(format!(
                "fd {}: a pidfd that is not understood; have the program close it",
                view.number
            )),
        }
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        Ok(who(from).map_or_else(Verdict::Unsupported, |_| Verdict::Supported))
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<PidFdImage> {
        let of = who(from).map_err(|why| Error::Refused(vec![why]))?;
        Ok(PidFdImage { of, flags: from.view.info.flags as i32 & (libc::O_NONBLOCK | PIDFD_THREAD) })
    }

    fn create(image: &PidFdImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let made = match image.of {
            Who::Itself => LinuxPidFd::open(new.process),
            Who::Thread(tid) => LinuxPidFd::open_thread(tid),
            Who::Ended { status } => LinuxPidFd::of_ended(status),
        };
        let fd = OwnedFd::from(made.doing(|| format!("make a pidfd ({:?})", image.of))?);
        set_flags(&fd, image.flags & libc::O_NONBLOCK)?;
        Ok(fd)
    }
}

/// What fdinfo shows (fs/pidfs.c `pidfd_show_fdinfo`).
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// As the reader's /proc counts. None: it has ended, and been waited for.
    seen: Option<i32>,
    /// In its own PID namespace.
    inside: i32,
}

impl Shown {
    fn parse(info: &FdInfo) -> Option<Shown> {
        let text = |key| std::str::from_utf8(info.extra(key)?).ok();
        let seen = text("Pid")?.parse().ok()?;
        let inside = text("NSpid")?.split_whitespace().last()?.parse().ok()?;
        Some(Shown { seen: Some(seen).filter(|seen| *seen != -1), inside })
    }
}

/// Err: why it cannot move.
fn who(from: &HeldFile) -> std::result::Result<Who, String> {
    let FileView { number, info, .. } = &from.view;
    let shown = Shown::parse(info).ok_or_else(|| format!("fd {number}: no pidfd"))?;
    let of_thread = info.flags as i32 & PIDFD_THREAD != 0;
    let Some(seen) = shown.seen else {
        return Ok(Who::Ended { status: pidfd::end_of(&from.duplicate).unwrap_or(0) });
    };
    if seen == from.process.pid && !of_thread {
        return Ok(Who::Itself);
    }
    if of_thread && std::path::Path::new(&format!("/proc/{}/task/{seen}", from.process)).exists() {
        return Ok(Who::Thread(shown.inside));
    }
    // 0: of another PID namespace.
    let (name, instead) = (name_of(seen), or_instead(&[*number]));
    Err(format!("fd {number}: a pidfd of process {seen} ({name}), which stays; {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::fdinfo::parse_fdinfo;

    #[test]
    fn lines_are_understood() {
        let shown = |pid: &str, inside: &str| {
            let text = format!("pos:\t0\nflags:\t02\nmnt_id:\t4\nino:\t9\nPid:\t{pid}\nNSpid:\t{inside}\n");
            Shown::parse(&parse_fdinfo(text.as_bytes()).expect("fdinfo"))
        };
        assert_eq!(shown("4711", "4711\t12"), Some(Shown { seen: Some(4711), inside: 12 }));
        assert_eq!(shown("-1", "-1"), Some(Shown { seen: None, inside: -1 }));
        assert_eq!(shown("x", "1"), None);
    }
}
