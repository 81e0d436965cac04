//! One frame: `{kind u16, flags u16, length u32, crc u32}` little-endian, then `length` bytes of payload.
//!
//! The only place that believes a length from a peer or a file, and it believes it late: the kind must be known, the
//! length within that kind's limit, and memory grows with the bytes that arrive. The CRC-32 of the payload is compared
//! before anybody decodes it. Kind 0 is never valid, so zeroed bytes are no frame; flags are zero in this version.

use std::io::{self, IoSlice, Read, Write};

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a frame before its payload.
pub const HEADER_LENGTH: usize = size_of::<Header>();

/// Memory is taken in steps of this, each after the one before has been filled.
const CHUNK: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    kind: U16,
    flags: U16,
    length: U32,
    crc: U32,
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed between two frames: nothing is lost.
    #[error("the other side closed the connection")]
    Closed,
    /// The peer closed within a frame.
    #[error("the connection ended in the middle of a message")]
    Truncated,
    /// Longer than its kind may be.
    #[error("a message of kind {kind} has {length} bytes; {limit} are allowed")]
    TooLong {
        /// The frame's kind.
        kind: u16,
        /// What its header says.
        length: u64,
        /// What is allowed.
        limit: u32,
    },
    /// The payload is not what was sent.
    #[error("a message of kind {kind} arrived damaged: its checksum differs")]
    Checksum {
        /// The frame's kind.
        kind: u16,
    },
    /// No message of this channel.
    #[error("a message of unknown kind {0}: the other side speaks something else, or another version")]
    UnknownKind(u16),
    /// Flags that this version does not know.
    #[error("a message of kind {kind} has unknown flags {flags:#06x}: the other side speaks another version")]
    UnknownFlags {
        /// The frame's kind.
        kind: u16,
        /// Its flags.
        flags: u16,
    },
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Writes one frame in one go and says how many bytes that were.
///
/// # Errors
/// [`FrameError::TooLong`] when the length does not fit the header, [`FrameError::Io`].
pub fn write_frame(to: &mut impl Write, kind: u16, payload: &[u8]) -> Result<u64, FrameError> {
    let too_long = |_| FrameError::TooLong { kind, length: payload.len() as u64, limit: u32::MAX };
    let length = u32::try_from(payload.len()).map_err(too_long)?;
    let header =
        Header { kind: kind.into(), flags: 0.into(), length: length.into(), crc: crc32fast::hash(payload).into() };
    let mut slices = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
    let mut left = &mut slices[..];
    // Advancing drops empty slices too: a write of nothing would look like a closed peer.
    while !left.is_empty() {
        match to.write_vectored(left) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(n) => IoSlice::advance_slices(&mut left, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    to.flush()?;
    Ok(HEADER_LENGTH as u64 + u64::from(length))
}

/// Reads one frame: its kind and payload. `limit_of` gives the most bytes that a kind may have, None for a kind that this
/// channel does not know.
///
/// # Errors
/// [`FrameError::Closed`] exactly between frames; otherwise whatever is wrong, and then the stream is of no further use.
pub fn read_frame(from: &mut impl Read, limit_of: impl Fn(u16) -> Option<u32>) -> Result<(u16, Vec<u8>), FrameError> {
    let mut header = Header::new_zeroed();
    match read_full(from, header.as_mut_bytes())? {
        0 => return Err(FrameError::Closed),
        HEADER_LENGTH => {}
        _ => return Err(FrameError::Truncated),
    }
    let (kind, flags, length) = (header.kind.get(), header.flags.get(), header.length.get());
    let limit = limit_of(kind).filter(|_| kind != 0).ok_or(FrameError::UnknownKind(kind))?;
    if flags != 0 {
        return Err(FrameError::UnknownFlags { kind, flags });
    }
    if length > limit {
        return Err(FrameError::TooLong { kind, length: length.into(), limit });
    }
    let payload = read_payload(from, length as usize)?;
    if crc32fast::hash(&payload) != header.crc.get() {
        return Err(FrameError::Checksum { kind });
    }
    Ok((kind, payload))
}

fn read_payload(from: &mut impl Read, length: usize) -> Result<Vec<u8>, FrameError> {
    let mut payload = Vec::new();
    while payload.len() < length {
        let start = payload.len();
        payload.resize(length.min(start + CHUNK), 0);
        let (_, fresh) = payload.split_at_mut(start);
        if read_full(from, fresh)? < fresh.len() {
            return Err(FrameError::Truncated);
        }
    }
    Ok(payload)
}

/// Reads until `buffer` is full or the stream ends; returns how much there was.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut left = buffer;
    let mut filled = 0;
    while !left.is_empty() {
        match from.read(left) {
            Ok(0) => break,
            Ok(n) => {
                filled += n;
                left = left.split_at_mut(n).1;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_kind(_: u16) -> Option<u32> {
        Some(16 * 1024 * 1024)
    }

    fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, kind, payload).expect("a Vec takes everything");
        bytes
    }

    #[test]
    fn golden_bytes() {
        let expected = [
            0x02, 0x01, 0, 0, 9, 0, 0, 0, // kind, flags, length
            0x26, 0x39, 0xf4, 0xcb, // the CRC-32 that every implementation gives for "123456789"
            b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9',
        ];
        assert_eq!(frame(0x0102, b"123456789"), expected);
    }

    #[test]
    fn a_frame_survives_also_an_empty_and_a_long_one() {
        for length in [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5] {
            let payload = vec![0x5a; length];
            let bytes = frame(3, &payload);
            assert_eq!(read_frame(&mut &bytes[..], any_kind).expect("whole"), (3, payload));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_truncated() {
        let bytes = frame(3, b"payload");
        assert!(matches!(read_frame(&mut &bytes[..0], any_kind), Err(FrameError::Closed)));
        for cut in 1..bytes.len() {
            assert!(matches!(read_frame(&mut &bytes[..cut], any_kind), Err(FrameError::Truncated)), "cut at {cut}");
        }
    }

    #[test]
    fn every_damaged_payload_bit_is_seen() {
        let bytes = frame(3, b"payload");
        for bit in HEADER_LENGTH * 8..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read_frame(&mut &bytes[..], any_kind), Err(FrameError::Checksum { kind: 3 })));
        }
    }

    #[test]
    fn the_limit_comes_before_the_memory() {
        let mut bytes = frame(3, b"");
        bytes[4..8].fill(0xff);
        let Err(FrameError::TooLong { kind: 3, length: 0xffff_ffff, limit: 10 }) =
            read_frame(&mut &bytes[..], |_| Some(10))
        else {
            panic!("a length of 4 GiB was believed")
        };
        // Allowed by the table and still a lie: it takes one chunk of memory, and not 4 GiB.
        assert!(matches!(read_frame(&mut &bytes[..], |_| Some(u32::MAX)), Err(FrameError::Truncated)));
    }

    #[test]
    fn zero_and_unknown_kinds_and_flags_are_refused() {
        assert!(matches!(read_frame(&mut &[0_u8; 64][..], any_kind), Err(FrameError::UnknownKind(0))));
        assert!(matches!(read_frame(&mut &frame(9, b"")[..], |_| None), Err(FrameError::UnknownKind(9))));
        let mut bytes = frame(9, b"");
        bytes[2] = 1;
        assert!(matches!(read_frame(&mut &bytes[..], any_kind), Err(FrameError::UnknownFlags { kind: 9, flags: 1 })));
    }

    /// Gives and takes one byte at a time, with an interruption before each.
    struct Dribble<'a>(&'a [u8], Vec<u8>, bool);

    impl Dribble<'_> {
        fn interrupted(&mut self) -> bool {
            self.2 = !self.2;
            self.2
        }
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.interrupted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = buffer.len().min(1);
            self.0.read(&mut buffer[..n])
        }
    }

    impl Write for Dribble<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.interrupted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.1.write(&bytes[..1])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_reads_and_writes_make_no_difference() {
        let mut out = Dribble(&[], Vec::new(), false);
        assert_eq!(write_frame(&mut out, 3, b"payload").expect("written"), 19);
        assert_eq!(out.1, frame(3, b"payload"));
        let bytes = out.1;
        let mut input = Dribble(&bytes, Vec::new(), false);
        assert_eq!(read_frame(&mut input, any_kind).expect("read"), (3, b"payload".to_vec()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read_frame(&mut &bytes[..], any_kind);
        }

        #[test]
        fn every_payload_survives(kind in 1_u16.., payload in proptest::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert_eq!(read_frame(&mut &frame(kind, &payload)[..], any_kind).expect("whole"), (kind, payload));
        }
    }
}
