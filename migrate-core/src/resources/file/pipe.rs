//! Pipes without a name whose ends are all inside the process: content, capacity, packet mode (O_DIRECT), O_NONBLOCK, which ends are
//! open, and several descriptions of one end.
//!
//! The content is read without taking it (tee(2)). The packets of a packet pipe are kept apart.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::libc::{O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO};

use super::{FileKind, FileView, HeldFile, NewFiles, flags_now, reopen};
use crate::error::{Doing, Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels, for each description of an end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PipeImage {
    /// The inode on the source: the same for all ends of one pipe.
    pipe: u64,
    flags: i32,
    /// Bytes that the pipe takes.
    capacity: i32,
    /// What is in it: one piece for each packet, else one piece. Only a reading end carries it.
    content: Vec<Vec<u8>>,
}

/// The kind.
pub enum Pipe {}

/// What a pipe may hold at most: /proc/sys/fs/pipe-max-size is 1 MiB unless somebody raised it.
const CAPACITY_LIMIT: i32 = 16 << 20;

impl FileKind for Pipe {
    const NAME: &'static str = "pipe";
    const MOVES: &'static str =
        "content, capacity, packet mode, flags, one end closed; both ends must be inside the process";
    type Image = PipeImage;

    fn recognise(view: &FileView) -> bool {
        view.file_type() == S_IFIFO && matches!(view.link, LinkTarget::Pipe(_))
    }

    fn preflight(_view: &FileView) -> Verdict {
        // Who else has it open is a question about the whole host; preflight asks it once for all pipes.
        Verdict::Supported
    }

    fn capture(from: &HeldFile) -> Result<PipeImage> {
        let LinkTarget::Pipe(pipe) = from.view.link else {
            return Err(Error::Invalid("a pipe without an inode".into()));
        };
        let flags = flags_now(from)?;
        let capacity = fcntl(&from.duplicate, FcntlArg::F_GETPIPE_SZ).map_err(Into::into);
        let capacity = capacity.doing(|| format!("read the capacity of descriptor {}", from.view.number))?;
        let content = if flags & O_ACCMODE == O_WRONLY {
            Vec::new()
        } else {
            content(&from.duplicate, capacity, flags & O_DIRECT != 0)
                .doing(|| format!("read the pipe of descriptor {}", from.view.number))?
        };
        Ok(PipeImage { pipe, flags, capacity, content })
    }

    fn create(image: &PipeImage, new: &mut NewFiles) -> Result<OwnedFd> {
        if let std::collections::hash_map::Entry::Vacant(place) = new.pipes.entry(image.pipe) {
            if !(1..=CAPACITY_LIMIT).contains(&image.capacity) {
                return Err(Error::Invalid(format!("a pipe of {} bytes", image.capacity)));
            }
            let ends = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Into::into);
            let ends = place.insert(ends.doing(|| "make a pipe".into())?);
            let sized = fcntl(&ends.1, FcntlArg::F_SETPIPE_SZ(image.capacity)).map_err(Into::into);
            sized.doing(|| format!("give a pipe a capacity of {} bytes", image.capacity))?;
        }
        let (reading, writing) = &new.pipes[&image.pipe];
        if !image.content.is_empty() {
            fill(writing, image)?;
        }
        let mode = image.flags & O_ACCMODE;
        let end = if mode == O_WRONLY { writing } else { reading };
        // A description of its own, with its own flags, however many there are of one end.
        match mode {
            O_RDONLY | O_WRONLY | O_RDWR => {
                let fd = reopen(end, mode)?;
                set_flags(&fd, image.flags & (O_NONBLOCK | O_DIRECT))?;
                Ok(fd)
            }
            _ => Err(Error::Invalid(format!("a pipe opened with flags {:#o}", image.flags))),
        }
    }
}

/// Copies what is in a pipe without taking it.
fn content(pipe: &OwnedFd, capacity: i32, packets: bool) -> std::io::Result<Vec<Vec<u8>>> {
    let waiting = migrate_linux::pipes::bytes_waiting(pipe)?;
    if waiting == 0 {
        return Ok(Vec::new());
    }
    let flags = if packets { OFlag::O_DIRECT } else { OFlag::empty() };
    let (reading, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | flags)?;
    fcntl(&writing, FcntlArg::F_SETPIPE_SZ(capacity))?;
    tee(pipe, &writing, capacity as usize, SpliceFFlags::SPLICE_F_NONBLOCK)?;
    drop(writing);
    let mut reading = std::fs::File::from(reading);
    let mut pieces = Vec::new();
    let mut total = 0;
    loop {
        // A read from a packet pipe gives one packet; PIPE_BUF is the largest.
        let mut piece = vec![0; if packets { 4096 } else { capacity as usize }];
        let n = reading.read(&mut piece)?;
        if n == 0 {
            break;
        }
        piece.truncate(n);
        total += n;
        pieces.push(piece);
    }
    if total != waiting {
        return Err(std::io::Error::other(format!("{total} of {waiting} bytes could be read")));
    }
    Ok(pieces)
}

fn fill(writing: &OwnedFd, image: &PipeImage) -> Result<()> {
    let end = reopen(writing, O_WRONLY)?;
    set_flags(&end, image.flags & O_DIRECT | O_NONBLOCK)?;
    let mut file = std::fs::File::from(end);
    let all = image.content.iter().try_for_each(|piece| file.write_all(piece));
    all.doing(|| format!("fill a pipe of {} bytes", image.capacity))
}

/// O_DIRECT makes packets here; only fcntl can set it on an end that exists.
fn set_flags(fd: &OwnedFd, flags: i32) -> Result<()> {
    let set = fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags))).map_err(Into::into);
    set.doing(|| "set a pipe's flags".into()).map(drop)
}
