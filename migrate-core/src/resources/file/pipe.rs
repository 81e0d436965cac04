//! Pipes without a name whose ends are all inside the process: content, capacity, packet mode (O_DIRECT), O_NONBLOCK, which ends are
//! open, and several descriptions of one end.
//!
//! The content is read without taking it (tee(2)). Packets stay packets: the flag is on what was written, and shows neither at the
//! reading end nor at the writing one, which may have been told otherwise since.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::pipes::bytes_waiting;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::libc::{O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, flags_now, reopen, set_flags};
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
    /// The pieces are packets.
    packets: bool,
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

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<PipeImage> {
        let LinkTarget::Pipe(pipe) = from.view.link else {
            return Err(Error::Invalid("a pipe without an inode".into()));
        };
        let flags = flags_now(from)?;
        let capacity = fcntl(&from.duplicate, FcntlArg::F_GETPIPE_SZ).map_err(Into::into);
        let capacity = capacity.doing(|| format!("read the capacity of descriptor {}", from.view.number))?;
        let (content, packets) = if flags & O_ACCMODE == O_WRONLY {
            (Vec::new(), false)
        } else {
            content(&from.duplicate, capacity).doing(|| format!("read the pipe of descriptor {}", from.view.number))?
        };
        Ok(PipeImage { pipe, flags, capacity, content, packets })
    }

    fn create(image: &PipeImage, new: &mut NewFiles) -> Result<OwnedFd> {
        if let std::collections::hash_map::Entry::Vacant(place) = new.pipes.entry(image.pipe) {
            place.insert(NewPipe::new(image.capacity)?);
        }
        let ends = new.pipes.get_mut(&image.pipe).ok_or_else(|| Error::Invalid("a pipe that is not there".into()))?;
        // Every description that can be read from tells of the same content.
        if !image.content.is_empty() && !std::mem::replace(&mut ends.filled, true) {
            fill(&ends.writing, image)?;
        }
        let fd = ends.description(image.flags)?;
        set_flags(&fd, image.flags & (O_NONBLOCK | O_DIRECT))?;
        Ok(fd)
    }
}

/// A pipe that is being made again.
#[derive(Debug)]
pub struct NewPipe {
    reading: OwnedFd,
    writing: OwnedFd,
    /// Which ends have been given away as they were made.
    given: (bool, bool),
    /// Its content is in it.
    filled: bool,
}

impl NewPipe {
    fn new(capacity: i32) -> Result<NewPipe> {
        if !(1..=CAPACITY_LIMIT).contains(&capacity) {
            return Err(Error::Invalid(format!("a pipe of {capacity} bytes")));
        }
        let ends = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Into::into);
        let (reading, writing) = ends.doing(|| "make a pipe".into())?;
        let sized = fcntl(&writing, FcntlArg::F_SETPIPE_SZ(capacity)).map_err(Into::into);
        sized.doing(|| format!("give a pipe a capacity of {capacity} bytes"))?;
        Ok(NewPipe { reading, writing, given: (false, false), filled: false })
    }

    /// A description of an end: the one that was made with the pipe, or one of its own when the original was opened through
    /// /proc, or is a further one.
    fn description(&mut self, flags: i32) -> Result<OwnedFd> {
        let (end, given) = match flags & O_ACCMODE {
            O_RDONLY => (&self.reading, &mut self.given.0),
            O_WRONLY => (&self.writing, &mut self.given.1),
            O_RDWR => return reopen(&self.reading, O_RDWR),
            _ => return Err(Error::Invalid(format!("a pipe opened with flags {flags:#o}"))),
        };
        // open(2) sets O_LARGEFILE, pipe(2) does not; libc's own constant is 0.
        const O_LARGEFILE: i32 = 0o100_000;
        if *given || flags & O_LARGEFILE != 0 {
            return reopen(end, flags & O_ACCMODE);
        }
        *given = true;
        end.try_clone().doing(|| "duplicate a pipe's end".into())
    }
}

/// Copies what is in a pipe without taking it, and tells whether it is packets.
fn content(pipe: &OwnedFd, capacity: i32) -> std::io::Result<(Vec<Vec<u8>>, bool)> {
    let waiting = bytes_waiting(pipe)?;
    if waiting == 0 {
        return Ok((Vec::new(), false));
    }
    let mut copy = File::from(copy_of(pipe, capacity)?);
    let mut pieces = Vec::new();
    let mut total = 0;
    while total < waiting {
        // However large the buffer, a read ends with its packet.
        let mut piece = vec![0; capacity as usize];
        let n = copy.read(&mut piece)?;
        if n == 0 {
            return Err(std::io::Error::other(format!("{total} of {waiting} bytes could be read")));
        }
        piece.truncate(n);
        total += n;
        pieces.push(piece);
    }
    let packets = match pieces.as_slice() {
        // What a short read leaves of a packet is lost.
        [only] if only.len() > 1 => {
            let mut copy = File::from(copy_of(pipe, capacity)?);
            copy.read_exact(&mut [0])?;
            bytes_waiting(&copy.into())? == 0
        }
        pieces => pieces.len() > 1,
    };
    Ok((pieces, packets))
}

/// The reading end of a pipe with the same content.
fn copy_of(pipe: &OwnedFd, capacity: i32) -> std::io::Result<OwnedFd> {
    let (reading, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    fcntl(&writing, FcntlArg::F_SETPIPE_SZ(capacity))?;
    tee(pipe, &writing, capacity as usize, SpliceFFlags::SPLICE_F_NONBLOCK)?;
    Ok(reading)
}

fn fill(writing: &OwnedFd, image: &PipeImage) -> Result<()> {
    let end = reopen(writing, O_WRONLY)?;
    set_flags(&end, if image.packets { O_DIRECT | O_NONBLOCK } else { O_NONBLOCK })?;
    let mut file = File::from(end);
    let all = image.content.iter().try_for_each(|piece| file.write_all(piece));
    all.doing(|| format!("fill a pipe of {} bytes", image.capacity))
}
