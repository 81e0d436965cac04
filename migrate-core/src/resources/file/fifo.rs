//! FIFOs (named pipes, fifo(7)) that nobody else has open: path, flags, which ends are open, several descriptions of one end, content,
//! capacity, packet mode; and whether one that reads has had a writer yet, which poll(2) tells it by. Deleted ones are made anew, and
//! deleted there.
//!
//! Where the hosts share a file system and a kernel, the FIFO is one pipe for both, and has its content already. Nothing here waits for
//! another end to be opened: that is done without blocking, and a writer finds a reader that was opened before it.
//!
//! What another process writes into it while this one stands still is lost with the original.

use std::fs::{Permissions, set_permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};

use bincode::{Decode, Encode};
use migrate_linux::pipes::bytes_waiting;
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, open, tee};
use nix::libc::{O_ACCMODE, O_DIRECT, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO, S_IFMT};
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::mkfifo;
use rustix::event::PollFlags;

use super::pipe_content::PipeContent;
use super::{
    FileKind, FileView, HeldFile, NewFiles, ONLY_WHEN_OPENING, Others, open_again, or_instead, polled, reopen,
    set_flags,
};
use crate::error::{Doing, Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels, for each description of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FifoImage {
    path: Vec<u8>,
    /// Device and inode on the source: the same for all descriptions of one FIFO.
    inode: (u64, u64),
    flags: i32,
    /// What is in it, told by those that read; if none does, by those that write.
    content: PipeContent,
    /// It reads, and nobody has opened it for writing since it was opened.
    unwritten: bool,
    /// Of one that has been deleted: user, group, mode.
    deleted: Option<(u32, u32, u32)>,
}

/// The kind.
pub enum Fifo {}

/// Whether a view is of one that is open, not only found (O_PATH).
pub fn is_fifo(view: &FileView) -> bool {
    Fifo::recognise(view)
}

impl FileKind for Fifo {
    const NAME: &'static str = "FIFO (named pipe)";
    const MOVES: &'static str = "path, content, capacity, packet mode, flags, which ends are open; it must be at the destination, and no other process have it open";
    type Image = FifoImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFIFO
            && view.info.flags as i32 & O_PATH == 0
            && matches!(view.link, LinkTarget::Path { .. })
    }

    fn preflight(view: &FileView) -> Verdict {
        let FileView { number, link, stat: this, .. } = view;
        let Some(path) = view.path() else {
            return match link {
                LinkTarget::Path { path, .. } if this.st_nlink != 0 => Verdict::Unsupported(format!(
                    "fd {number}: {} has been deleted, and the FIFO has another name that cannot be found; {}",
                    path.display(),
                    or_instead(&[*number])
                )),
                _ => Verdict::Supported,
            };
        };
        match stat(path) {
            Ok(named) if (named.st_dev, named.st_ino) == (this.st_dev, this.st_ino) => Verdict::Supported,
            Ok(_) => Verdict::Unsupported(format!(
                "fd {number}: {} is another file by now than the FIFO that the program has open; {}",
                path.display(),
                or_instead(&[*number])
            )),
            Err(e) => Verdict::Unsupported(format!("fd {number}: {}: {e}", path.display())),
        }
    }

    fn needs(view: &FileView) -> Option<&std::ffi::OsStr> {
        view.path()
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<FifoImage> {
        let HeldFile { view, duplicate, .. } = from;
        let number = view.number;
        let LinkTarget::Path { path, deleted } = &view.link else {
            return Err(Error::Invalid(format!("fd {number}: a FIFO without a path")));
        };
        let inode = from.inode();
        let on_inode = others.on_inode(view.stat.st_ino);
        let ends = || on_inode.iter().filter(|(_, held)| held.inode() == inode && is_fifo(&held.view));
        let has_end = |mode: i32| ends().any(|(_, held)| [mode, O_RDWR].contains(&access(&held.view)));
        let mode = access(view);
        let doing = || format!("look into the FIFO of descriptor {number}");
        // One that another opens to read some day will still find what is in it.
        let own = match mode == O_WRONLY && !has_end(O_RDONLY) && bytes_waiting(duplicate).doing(doing)? > 0 {
            true => Some(reopen(duplicate, O_RDONLY | O_NONBLOCK)?),
            false => None,
        };
        let reading = if mode == O_WRONLY { own.as_ref() } else { Some(duplicate) };
        let content = PipeContent::read(duplicate, reading, number)?;
        let unwritten = mode == O_RDONLY && !has_end(O_WRONLY) && !has_had_writer(duplicate).doing(doing)?;
        let deleted = deleted.then_some((view.stat.st_uid, view.stat.st_gid, view.stat.st_mode & 0o7777));
        Ok(FifoImage { path: path.as_bytes().to_vec(), inode, flags: view.status_flags(), content, unwritten, deleted })
    }

    fn comes_last(image: &FifoImage) -> bool {
        // A writer that comes and goes while the others are made would be its first.
        image.unwritten
    }

    fn create(image: &FifoImage, new: &mut NewFiles) -> Result<OwnedFd> {
        use std::collections::hash_map::Entry;
        let same_kernel = new.same_kernel;
        let fifo = match new.fifos.entry(image.inode) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => place.insert(NewFifo::new(image, same_kernel)?),
        };
        fifo.fill(&image.content)?;
        if image.unwritten {
            fifo.both = None;
        } else if fifo.both.is_none() {
            fifo.both = Some(reopen(&fifo.place, O_RDWR | O_NONBLOCK)?);
        }
        let flags = image.flags & !(ONLY_WHEN_OPENING | O_DIRECT | O_PATH) | O_NONBLOCK;
        let fd = match image.deleted {
            None if flags & O_NOFOLLOW != 0 => open_again(&image.path, flags)?,
            _ => reopen(&fifo.place, flags & !O_NOFOLLOW)?,
        };
        set_flags(&fd, image.flags)?;
        Ok(fd)
    }
}

fn access(view: &FileView) -> i32 {
    view.info.flags as i32 & O_ACCMODE
}

/// Whether one that reads, and that no descriptor of the process writes to, has had a writer since it was opened: it is told that it is
/// gone (fs/pipe.c `pipe_poll`), or there is one.
fn has_had_writer(reading: &OwnedFd) -> std::io::Result<bool> {
    if polled(reading, PollFlags::empty())?.contains(PollFlags::HUP) {
        return Ok(true);
    }
    Ok(bytes_waiting(reading)? == 0 && has_writer_or_content(reading)?)
}

fn has_writer_or_content(reading: &OwnedFd) -> std::io::Result<bool> {
    let (_there, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    match tee(reading, &into, 1, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(copied) => Ok(copied > 0),
        Err(Errno::EAGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A FIFO whose descriptions are being made.
#[derive(Debug)]
pub struct NewFifo {
    /// It, not opened (O_PATH).
    place: OwnedFd,
    /// While its descriptions are made somebody has its reading end, so that nothing in it is lost.
    _reading: Option<OwnedFd>,
    /// Both its ends, so that each can be opened.
    both: Option<OwnedFd>,
    /// Its content is in it.
    filled: bool,
}

impl NewFifo {
    fn new(image: &FifoImage, same_kernel: bool) -> Result<NewFifo> {
        let name = String::from_utf8_lossy(&image.path);
        let place = match image.deleted {
            None => open_again(&image.path, O_PATH)?,
            Some(owner) => make_deleted(&image.path, owner)?,
        };
        let here = fstat(&place).map_err(std::io::Error::from).doing(|| format!("look at {name}"))?;
        if here.st_mode & S_IFMT != S_IFIFO {
            return Err(Error::Invalid(format!(
                "{name} is no FIFO here; make it one (mkfifo), or share the file system"
            )));
        }
        if same_kernel && image.deleted.is_none() && image.inode == (here.st_dev, here.st_ino) {
            return Ok(NewFifo { place, _reading: None, both: None, filled: true });
        }
        let others = || {
            Error::Refused(vec![format!(
                "another process on this host has the FIFO {name} open, and would get what is for the program; end that, or have the program use another one"
            )])
        };
        match open_place(&place, O_WRONLY) {
            // Nobody reads.
            Err(Errno::ENXIO) => {}
            Ok(_) => return Err(others()),
            Err(error) => return Err(Error::io(format!("open {name}"), error.into())),
        }
        let reading = open_place(&place, O_RDONLY).map_err(Into::into).doing(|| format!("open {name}"))?;
        if has_writer_or_content(&reading).doing(|| format!("look into {name}"))? {
            return Err(others());
        }
        image.content.size(&reading)?;
        Ok(NewFifo { place, _reading: Some(reading), both: None, filled: false })
    }

    /// Every description that can be read from tells of the same content.
    fn fill(&mut self, content: &PipeContent) -> Result<()> {
        if content.is_empty() || std::mem::replace(&mut self.filled, true) {
            return Ok(());
        }
        content.fill(&self.place)
    }
}

/// Opens one end, or none if that would have to wait.
fn open_place(place: &OwnedFd, mode: i32) -> nix::Result<OwnedFd> {
    let flags = OFlag::from_bits_truncate(mode | O_NONBLOCK) | OFlag::O_CLOEXEC;
    open(format!("/proc/self/fd/{}", place.as_raw_fd()).as_str(), flags, Mode::empty())
}

/// Makes one at this path, and deletes it.
fn make_deleted(path: &[u8], (user, group, mode): (u32, u32, u32)) -> Result<OwnedFd> {
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    let doing = || format!("make the FIFO {} and delete it, as the program has", path.display());
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Into::into).doing(doing)?;
    let place = open_again(path.as_os_str().as_bytes(), O_PATH | O_NOFOLLOW);
    std::fs::remove_file(path).doing(doing)?;
    let place = place?;
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    chown(&link, Some(user), Some(group)).doing(doing)?;
    set_permissions(&link, Permissions::from_mode(mode & 0o7777)).doing(doing)?;
    Ok(place)
}
