//! What is in a pipe or a FIFO: read without taking it (tee(2)), and put into a new one.
//!
//! Packets (O_DIRECT) stay packets: the flag is on what was written, and shows neither at the reading end nor at the writing one, which may
//! have been told otherwise since.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::pipes::bytes_waiting;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::libc::{O_DIRECT, O_NONBLOCK, O_WRONLY};

use super::{reopen, set_flags};
use crate::error::{Doing, Error, Result};

/// What a pipe may hold at most: /proc/sys/fs/pipe-max-size is 1 MiB unless somebody raised it.
const CAPACITY_LIMIT: i32 = 16 << 20;

/// Capacity and content.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PipeContent {
    /// Bytes that it takes.
    capacity: i32,
    /// One piece for each packet, else one piece.
    pieces: Vec<Vec<u8>>,
    /// They are packets.
    packets: bool,
}

impl PipeContent {
    /// Of the pipe that descriptor `number` is an end of. `reading`: an end to read from; without one the content is left out.
    pub fn read(end: &OwnedFd, reading: Option<&OwnedFd>, number: i32) -> Result<PipeContent> {
        let capacity = fcntl(end, FcntlArg::F_GETPIPE_SZ).map_err(Into::into);
        let capacity = capacity.doing(|| format!("read the capacity of descriptor {number}"))?;
        let read = reading.map_or(Ok((Vec::new(), false)), |reading| content(reading, capacity));
        let (pieces, packets) = read.doing(|| format!("read the pipe of descriptor {number}"))?;
        Ok(PipeContent { capacity, pieces, packets })
    }

    /// Nothing is in it, or nothing is known of it.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Gives a new pipe its capacity. Err: also when it makes no sense.
    pub fn size(&self, end: &OwnedFd) -> Result<()> {
        let capacity = self.capacity;
        if !(1..=CAPACITY_LIMIT).contains(&capacity) {
            return Err(Error::Invalid(format!("a pipe of {capacity} bytes")));
        }
        let sized = fcntl(end, FcntlArg::F_SETPIPE_SZ(capacity)).map_err(Into::into);
        sized.doing(|| format!("give a pipe a capacity of {capacity} bytes")).map(drop)
    }

    /// Fills a new pipe. `end`: any end of it.
    pub fn fill(&self, end: &OwnedFd) -> Result<()> {
        let end = reopen(end, O_WRONLY | O_NONBLOCK)?;
        set_flags(&end, if self.packets { O_DIRECT | O_NONBLOCK } else { O_NONBLOCK })?;
        let mut file = File::from(end);
        let all = self.pieces.iter().try_for_each(|piece| file.write_all(piece));
        all.doing(|| format!("fill a pipe of {} bytes", self.capacity))
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
