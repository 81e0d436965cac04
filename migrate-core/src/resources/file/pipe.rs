//! Pipes without a name whose ends are all inside the process: content, capacity, packet mode (O_DIRECT), O_NONBLOCK, which ends are
//! open, and several descriptions of one end.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use nix::fcntl::OFlag;
use nix::libc::{O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO};

use super::pipe_content::PipeContent;
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
    /// Only a reading end carries what is in it.
    content: PipeContent,
}

/// The kind.
pub enum Pipe {}

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
        let reading = (flags & O_ACCMODE != O_WRONLY).then_some(&from.duplicate);
        let content = PipeContent::read(&from.duplicate, reading, from.view.number)?;
        Ok(PipeImage { pipe, flags, content })
    }

    fn create(image: &PipeImage, new: &mut NewFiles) -> Result<OwnedFd> {
        if let std::collections::hash_map::Entry::Vacant(place) = new.pipes.entry(image.pipe) {
            place.insert(NewPipe::new(&image.content)?);
        }
        let ends = new.pipes.get_mut(&image.pipe).ok_or_else(|| Error::Invalid("a pipe that is not there".into()))?;
        // Every description that can be read from tells of the same content.
        if !image.content.is_empty() && !std::mem::replace(&mut ends.filled, true) {
            image.content.fill(&ends.writing)?;
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
    fn new(content: &PipeContent) -> Result<NewPipe> {
        let ends = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Into::into);
        let (reading, writing) = ends.doing(|| "make a pipe".into())?;
        content.size(&writing)?;
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
