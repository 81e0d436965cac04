//! What is in a pipe or a FIFO: read without taking it (tee(2)), and put into a new one.
//!
//! Packets (O_DIRECT) stay packets, also beside what is none: the flag is on what was written, and shows neither at the reading end nor at
//! the writing one, which may have been told otherwise since. How a copy is read tells: a read ends with a packet, and what it leaves of
//! one is lost.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::pipes::bytes_waiting;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::libc::{O_DIRECT, O_NONBLOCK, O_WRONLY};

use super::reopen;
use crate::error::{Doing, Error, Result};

/// What a pipe may hold at most: /proc/sys/fs/pipe-max-size is 1 MiB unless somebody raised it.
const CAPACITY_LIMIT: i32 = 16 << 20;

/// Capacity and content.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PipeContent {
    /// Bytes that it takes.
    capacity: i32,
    /// In their order.
    pieces: Vec<Piece>,
}

/// A packet, or all that is between two.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Piece {
    bytes: Vec<u8>,
    packet: bool,
}

impl PipeContent {
    /// Of the pipe that descriptor `number` is an end of. `reading`: an end to read from; without one the content is left out.
    pub fn read(end: &OwnedFd, reading: Option<&OwnedFd>, number: i32) -> Result<PipeContent> {
        let capacity = fcntl(end, FcntlArg::F_GETPIPE_SZ).map_err(Into::into);
        let capacity = capacity.doing(|| format!("read the capacity of descriptor {number}"))?;
        let read = reading.map_or(Ok(Vec::new()), |reading| content(reading, capacity));
        let pieces = read.doing(|| format!("read the pipe of descriptor {number}"))?;
        Ok(PipeContent { capacity, pieces })
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
        let fill = || {
            let mut file = File::from(end.try_clone()?);
            let mut direct = false;
            for (i, piece) in self.pieces.iter().enumerate() {
                if piece.packet != direct {
                    direct = piece.packet;
                    fcntl(&end, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags_for(direct))))?;
                }
                match !direct && self.pieces.get(i + 1).is_some() {
                    // The packet behind it would be put onto its last page, and be none.
                    true => self.write_closed(&piece.bytes, &end)?,
                    false => file.write_all(&piece.bytes)?,
                }
            }
            Ok(())
        };
        fill().doing(|| format!("fill a pipe of {} bytes", self.capacity))
    }

    /// Puts bytes into a pipe so that nothing that is written later goes onto their last page: as tee(2) does.
    fn write_closed(&self, bytes: &[u8], pipe: &OwnedFd) -> io::Result<()> {
        let (reading, writing) = new_pipe(self.capacity)?;
        File::from(writing).write_all(bytes)?;
        match tee(&reading, pipe, bytes.len(), SpliceFFlags::SPLICE_F_NONBLOCK)? {
            all if all == bytes.len() => Ok(()),
            some => Err(io::Error::other(format!("{some} of {} bytes fit into it", bytes.len()))),
        }
    }
}

fn flags_for(packets: bool) -> i32 {
    if packets { O_DIRECT | O_NONBLOCK } else { O_NONBLOCK }
}

fn new_pipe(capacity: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    fcntl(&writing, FcntlArg::F_SETPIPE_SZ(capacity))?;
    Ok((reading, writing))
}

/// Copies what is in a pipe without taking it.
fn content(pipe: &OwnedFd, capacity: i32) -> io::Result<Vec<Piece>> {
    let waiting = bytes_waiting(pipe)?;
    if waiting == 0 {
        return Ok(Vec::new());
    }
    let (reading, writing) = copy_of(pipe, capacity)?;
    // A byte behind it all is read together with what is no packet.
    let marked = File::from(writing).write(&[0]).is_ok();
    let mut copy = File::from(reading);
    let mut ended = Vec::new();
    let mut left = waiting + usize::from(marked);
    while left > 0 {
        // However large the buffer, a read ends with a packet.
        let mut bytes = vec![0; capacity as usize + 1];
        let n = copy.read(&mut bytes)?;
        if n == 0 {
            return Err(io::Error::other(format!("{left} of {waiting} bytes could not be read")));
        }
        bytes.truncate(n);
        left = left.saturating_sub(n);
        ended.push(bytes);
    }
    let mut last_is_packet = !marked && ended.len() > 1;
    if marked && let Some(last) = ended.last_mut() {
        last.pop();
        if last.is_empty() {
            ended.pop();
            last_is_packet = true;
        }
    }
    match ended.as_slice() {
        [_] if !last_is_packet => Ok(ended.into_iter().map(|bytes| Piece { bytes, packet: false }).collect()),
        _ => divide(pipe, capacity, ended, last_is_packet),
    }
}

/// Divides pieces each of which, but perhaps the last, ends with a packet and may begin with what is none.
fn divide(pipe: &OwnedFd, capacity: i32, ended: Vec<Vec<u8>>, last_is_packet: bool) -> io::Result<Vec<Piece>> {
    let copy = copy_of(pipe, capacity)?.0;
    let mut reading = File::from(copy.try_clone()?);
    let mut pieces = Vec::with_capacity(ended.len());
    let count = ended.len();
    for (i, mut bytes) in ended.into_iter().enumerate() {
        if i + 1 == count && !last_is_packet {
            pieces.push(Piece { bytes, packet: false });
            break;
        }
        let mut before = 0;
        // Until what is read is more than was asked for: the rest of a packet is lost.
        while before + 1 < bytes.len() {
            let waiting = bytes_waiting(&copy)?;
            reading.read_exact(&mut [0])?;
            if waiting.saturating_sub(bytes_waiting(&copy)?) > 1 {
                break;
            }
            before += 1;
        }
        if before + 1 == bytes.len() {
            reading.read_exact(&mut [0])?;
        }
        let packet = bytes.split_off(before);
        if !bytes.is_empty() {
            pieces.push(Piece { bytes, packet: false });
        }
        pieces.push(Piece { bytes: packet, packet: true });
    }
    Ok(pieces)
}

/// Both ends of a pipe with the same content, and room for more where that can be had.
fn copy_of(pipe: &OwnedFd, capacity: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = new_pipe(capacity.saturating_mul(2)).or_else(|_| new_pipe(capacity))?;
    tee(pipe, &writing, capacity as usize, SpliceFFlags::SPLICE_F_NONBLOCK)?;
    Ok((reading, writing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(pipe: &OwnedFd, bytes: &[u8], packet: bool) {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags_for(packet)))).unwrap();
        assert_eq!(File::from(pipe.try_clone().unwrap()).write(bytes).unwrap(), bytes.len());
    }

    fn piece(bytes: &[u8], packet: bool) -> Piece {
        Piece { bytes: bytes.into(), packet }
    }

    /// Reads what is in the pipe, and puts it into another one, where it must be the same.
    fn expect(pipe: &OwnedFd, capacity: i32, expected: &[Piece]) {
        let read = PipeContent::read(pipe, Some(pipe), 3).unwrap();
        let told: Vec<_> = read.pieces.iter().map(|piece| (piece.bytes.len(), piece.packet)).collect();
        assert!(read.pieces == expected, "{told:?}");
        let (there, writing) = new_pipe(capacity).unwrap();
        read.fill(&writing).unwrap();
        assert!(PipeContent::read(&there, Some(&there), 3).unwrap() == read, "filled: {told:?}");
    }

    #[test]
    fn packets_and_bytes_stay_what_they_are() {
        let page = vec![7; 4096];
        let one = [1];
        // What is written behind bytes that leave room on their page joins them, packet or not; behind a full page it does not.
        let cases: &[&[(&[u8], bool)]] = &[
            &[(b"bytes", false)],
            &[(b"packet", true)],
            &[(&one, true)],
            &[(&one, true), (&one, true), (&one, false)],
            &[(&page, false), (b"packet", true)],
            &[(&page, false), (&one, true)],
            &[(b"packet", true), (b"bytes", false)],
            &[(b"a", true), (&page, false), (b"bc", true), (&one, true), (b"rest", false)],
            &[(&page, true), (&page, false), (&page, true)],
        ];
        for case in cases {
            let (reading, writing) = new_pipe(1 << 16).unwrap();
            case.iter().for_each(|(bytes, packet)| write(&writing, bytes, *packet));
            let expected: Vec<_> = case.iter().map(|(bytes, packet)| piece(bytes, *packet)).collect();
            expect(&reading, 1 << 16, &expected);
        }
    }

    #[test]
    fn what_is_behind_bytes_that_nothing_joins_stays_a_packet() {
        let (reading, writing) = new_pipe(1 << 16).unwrap();
        PipeContent { capacity: 1 << 16, pieces: Vec::new() }.write_closed(b"bytes", &writing).unwrap();
        write(&writing, b"packet", true);
        expect(&reading, 1 << 16, &[piece(b"bytes", false), piece(b"packet", true)]);
    }

    #[test]
    fn a_full_one_too() {
        let page = [3; 4096];
        for (packet, size) in [(true, 1), (true, 4096), (false, 4096)] {
            let (reading, writing) = new_pipe(1 << 16).unwrap();
            (0..16).for_each(|_| write(&writing, &page[..size], packet));
            match packet {
                true => expect(&reading, 1 << 16, &vec![piece(&page[..size], true); 16]),
                false => expect(&reading, 1 << 16, &[piece(&page.repeat(16), false)]),
            }
        }
    }
}
