//! `/dev/tty` (tty(4)): the controlling terminal by that name, where it is a pseudo terminal whose master is in the process too, which
//! leads its session: number, exclusive mode, flags.
//!
//! Only a process that has the terminal can open it so. Until the new process does, another way to the same terminal is in its place.

use std::os::fd::OwnedFd;

use migrate_linux::remote::Batch;
use migrate_linux::{libc, pty};
use nix::sys::stat::{major, minor};

use super::pty_master::{SLAVES, nothing_unread};
use super::pty_slave::{PtySlave, PtySlaveImage};
use super::{FileKind, FileView, HeldFile, NewFiles, ONLY_WHEN_OPENING, Others, Placed, or_instead};
use crate::error::{Doing, Error, Result};
use crate::proc::stat::read_stat;
use crate::resources::Verdict;

/// The kind.
pub enum Tty {}

/// /dev/tty (Documentation/admin-guide/devices.txt).
const TTY: (u64, u64) = (5, 0);

impl FileKind for Tty {
    const NAME: &'static str = "controlling terminal (/dev/tty)";
    const MOVES: &'static str =
        "of a process that leads its session and has the pseudo terminal's master too: exclusive mode, flags";
    type Image = PtySlaveImage;

    fn recognise(view: &FileView) -> bool {
        let device = view.stat.st_rdev;
        view.file_type() == libc::S_IFCHR
            && (major(device), minor(device)) == TTY
            && view.info.flags as i32 & libc::O_PATH == 0
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        Ok(match terminal(from)? {
            Ok(_) => Verdict::Supported,
            Err(why) => {
                let number = from.view.number;
                Verdict::Unsupported(format!("fd {number}: /dev/tty, {why}; {}", or_instead(&[number])))
            }
        })
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<PtySlaveImage> {
        let fd = from.view.number;
        let number = terminal(from)?.map_err(|why| Error::Refused(vec![format!("fd {fd}: /dev/tty, {why}")]))?;
        nothing_unread(from, others)?;
        let exclusive = pty::is_exclusive(&from.duplicate).doing(|| format!("read the terminal of descriptor {fd}"))?;
        Ok(PtySlaveImage::new(number, from.view.status_flags(), exclusive))
    }

    fn create(image: &PtySlaveImage, new: &mut NewFiles) -> Result<OwnedFd> {
        PtySlave::create(image, new)
    }

    fn comes_first(_image: &PtySlaveImage) -> bool {
        // What is at its numbers is put there when it is tied to its process; epolls watch that.
        true
    }

    fn connect(image: &PtySlaveImage, at: Placed<'_>, batch: &mut Batch) -> Result<()> {
        // Its master may be tied later. The second time nothing happens.
        batch.must(libc::SYS_ioctl, [at.number.into(), libc::TIOCSCTTY.into(), 0.into()]);
        let path = batch.string(b"/dev/tty");
        let flags = image.flags() & !ONLY_WHEN_OPENING | libc::O_NOCTTY | libc::O_CLOEXEC;
        batch.must(libc::SYS_openat, [libc::AT_FDCWD.into(), path.into(), flags.into()]);
        // It has come to the lowest number that is free.
        let opened = at.lowest_free();
        for descriptor in at.all() {
            let flags = if descriptor.close_on_exec { libc::O_CLOEXEC } else { 0 };
            batch.must(libc::SYS_dup3, [opened.into(), descriptor.number.into(), flags.into()]);
        }
        batch.must(libc::SYS_close, [opened.into()]);
        Ok(())
    }
}

/// The number of the pseudo terminal that it leads to. Err: why that does not move.
fn terminal(from: &HeldFile) -> Result<std::result::Result<u32, String>> {
    let device = match pty::device(&from.duplicate) {
        Ok(device) => device,
        Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(Err("which has been hung up".into())),
        Err(error) => return Err(error).doing(|| format!("look at the terminal of descriptor {}", from.view.number)),
    };
    let doing = || format!("read process {}", from.process);
    let own = read_stat(from.process.pid).doing(doing)?.tty_nr as u32;
    // The kernel's form of a device number with 12 bits of major and 20 of minor (linux/kdev_t.h `new_encode_dev`).
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    Ok(if u64::from(major) != SLAVES {
        Err(format!("is the terminal of device {major}:{minor}, which stays"))
    } else if own != device {
        Err(format!("led to /dev/pts/{minor}, which is no longer the process's controlling terminal"))
    } else {
        Ok(minor)
    })
}

/// The pseudo terminal that a descriptor leads to by this name.
pub fn number(from: &HeldFile) -> Option<u32> {
    if Tty::recognise(&from.view) { terminal(from).ok()?.ok() } else { None }
}
