//! The page streams: pages never pass through a serializer.
//!
//! A stream is a TCP connection of its own. Each batch is a fixed header, a table of runs, and the raw bytes of those runs that
//! have any. After the last batch of a round comes a *barrier*; the receiver answers it once everything before it is in place.
//!
//! ```text
//! source                              destination
//!   header, runs, bytes   ─────────▶  (places them)
//!   header, runs, bytes   ─────────▶  (places them)
//!   barrier n             ─────────▶
//!                         ◀─────────  answer n, or why not
//! ```
//!
//! The bytes may be compressed, each batch by itself, when that makes them fewer. Limits are checked before anything is allocated, the
//! checksum before anything is decompressed or placed; what is decompressed has the length that the header says.

use std::io::{self, Read};

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of pages in a batch at most.
pub const BATCH_BYTES: usize = 1 << 20;
/// Runs in a batch at most: what one process_vm_writev takes.
pub const BATCH_RUNS: usize = 512;
/// First word of every header.
pub const MAGIC: u32 = 0x5041_4745;

/// A batch of pages.
pub const KIND_PAGES: u32 = 1;
/// The end of a round on this stream.
pub const KIND_BARRIER: u32 = 2;
/// A batch of pages, compressed as an lz4 block.
pub const KIND_LZ4: u32 = 3;
/// A batch of pages, compressed as a zstd frame.
pub const KIND_ZSTD: u32 = 4;

/// Before every batch.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`KIND_PAGES`], [`KIND_LZ4`], [`KIND_ZSTD`] or [`KIND_BARRIER`].
    pub kind: U32,
    /// The round, from 1.
    pub round: U32,
    /// The layout that must be in place before these pages can be; counts the layout updates.
    pub layout: U32,
    /// 0: addresses of the process. Else a shared object, and the runs are offsets in it.
    pub object: U32,
    /// How many runs follow.
    pub runs: U32,
    /// How many bytes the runs have.
    pub bytes: U32,
    /// How many bytes follow the runs: fewer than they have, if these are compressed.
    pub packed: U32,
    /// xxh3 of the header but for this field, of the runs, and of the bytes that follow.
    pub checksum: U64,
}

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Run {
    /// Address, or offset in the object.
    pub start: U64,
    /// Bytes; the highest bit says that they are all zero and not among the batch's bytes.
    length: U64,
}

const ZERO: u64 = 1 << 63;

impl Run {
    /// Pages with content.
    pub fn data(start: u64, length: u64) -> Run {
        Run { start: start.into(), length: length.into() }
    }

    /// Pages of zeros.
    pub fn zero(start: u64, length: u64) -> Run {
        Run { start: start.into(), length: (length | ZERO).into() }
    }

    /// Whether they are zeros.
    pub fn is_zero(&self) -> bool {
        self.length.get() & ZERO != 0
    }

    /// Bytes of memory.
    pub fn len(&self) -> u64 {
        self.length.get() & !ZERO
    }

    /// Never, in a valid batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the receiver answers to a barrier: 0, or the length of the reason that follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Answer {
    /// The barrier's round.
    pub round: U32,
    /// Bytes of the reason; 0: all is in place.
    pub reason: U32,
}

/// A reason's length at most.
pub const REASON_LIMIT: usize = 4096;

impl Header {
    /// The checksum of a batch with this header.
    pub fn checksum_of(&self, runs: &[Run], bytes: &[u8]) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(Header { checksum: 0.into(), ..*self }.as_bytes());
        hash.update(runs.as_bytes());
        hash.update(bytes);
        hash.digest()
    }
}

/// Why a batch is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The stream ended or failed.
    #[error("page stream: {0}")]
    Io(#[from] io::Error),
    /// Not a header, or beyond the limits.
    #[error("page stream: {0}")]
    Invalid(String),
}

/// Buffers that batches are read into again and again.
#[derive(Default)]
pub struct BatchBuffer {
    /// The runs of the last batch read.
    pub runs: Vec<Run>,
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// As they came, if compressed.
    packed: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl BatchBuffer {
    /// Reads the next header and what follows it. None: the stream ended between two batches.
    pub fn read(&mut self, stream: &mut impl Read) -> Result<Option<Header>, BatchError> {
        let mut header = Header::new_zeroed();
        let first = stream.read(&mut header.as_mut_bytes()[..1])?;
        if first == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header.as_mut_bytes()[1..])?;
        if header.magic.get() != MAGIC || !(KIND_PAGES..=KIND_ZSTD).contains(&header.kind.get()) {
            return Err(BatchError::Invalid(format!("no batch header: {:08x} {:x}", header.magic, header.kind)));
        }
        let (runs, bytes) = (header.runs.get() as usize, header.bytes.get() as usize);
        let (packed, is_packed) = (header.packed.get() as usize, matches!(header.kind.get(), KIND_LZ4 | KIND_ZSTD));
        let length_fits = if is_packed { packed < bytes } else { packed == bytes };
        if runs > BATCH_RUNS || bytes > BATCH_BYTES || !length_fits {
            return Err(BatchError::Invalid(format!(
                "a batch of {runs} runs and {bytes} bytes, {packed} of them sent"
            )));
        }
        self.runs.resize(runs, Run::data(0, 0));
        stream.read_exact(self.runs.as_mut_bytes())?;
        let coming = if is_packed { &mut self.packed } else { &mut self.bytes };
        coming.resize(packed, 0);
        stream.read_exact(coming)?;
        if header.checksum_of(&self.runs, coming) != header.checksum.get() {
            return Err(BatchError::Invalid("a batch's checksum is wrong".into()));
        }
        if is_packed {
            self.unpack(header.kind.get(), bytes)?;
        }
        let mut data = 0u64;
        for run in &self.runs {
            let end = run.start.get().checked_add(run.len());
            if run.is_empty() || end.is_none() || (run.start.get() | run.len()) % 4096 != 0 {
                return Err(BatchError::Invalid(format!("a run of {} bytes at {:#x}", run.len(), run.start)));
            }
            if !run.is_zero() {
                data = data.saturating_add(run.len());
            }
        }
        if data != bytes as u64 {
            return Err(BatchError::Invalid(format!("runs of {data} bytes with {bytes} bytes")));
        }
        Ok(Some(header))
    }

    /// Decompresses into exactly `bytes` bytes.
    fn unpack(&mut self, kind: u32, bytes: usize) -> Result<(), BatchError> {
        self.bytes.resize(bytes, 0);
        let unpacked = match kind {
            KIND_LZ4 => lz4_flex::block::decompress_into(&self.packed, &mut self.bytes).map_err(|e| e.to_string()),
            _ => {
                let mut zstd = self.zstd.take().map_or_else(zstd::bulk::Decompressor::new, Ok)?;
                let unpacked = zstd.decompress_to_buffer(&self.packed, self.bytes.as_mut_slice());
                self.zstd = Some(zstd);
                unpacked.map_err(|e| e.to_string())
            }
        };
        match unpacked {
            Ok(length) if length == bytes => Ok(()),
            Ok(length) => Err(BatchError::Invalid(format!("a compressed batch of {length} bytes instead of {bytes}"))),
            Err(why) => Err(BatchError::Invalid(format!("a compressed batch: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(runs: &[Run], bytes: &[u8]) -> Vec<u8> {
        packed_batch(KIND_PAGES, runs, bytes.len(), bytes)
    }

    fn packed_batch(kind: u32, runs: &[Run], length: usize, bytes: &[u8]) -> Vec<u8> {
        let mut header = Header {
            magic: MAGIC.into(),
            kind: kind.into(),
            round: 1.into(),
            layout: 0.into(),
            object: 0.into(),
            runs: (runs.len() as u32).into(),
            bytes: (length as u32).into(),
            packed: (bytes.len() as u32).into(),
            checksum: 0.into(),
        };
        header.checksum = header.checksum_of(runs, bytes).into();
        [header.as_bytes(), runs.as_bytes(), bytes].concat()
    }

    #[test]
    fn compressed_batches_have_the_length_that_they_say() {
        let runs = [Run::data(0x1000, 0x2000)];
        let content = [[1; 4096], [2; 4096]].concat();
        let mut buffer = BatchBuffer::default();
        let zstd = zstd::bulk::compress(&content, 1).expect("compressed");
        let lz4 = lz4_flex::block::compress(&content);
        for (kind, packed) in [(KIND_ZSTD, &zstd), (KIND_LZ4, &lz4)] {
            let good = packed_batch(kind, &runs, content.len(), packed);
            assert!(buffer.read(&mut good.as_slice()).expect("valid").is_some());
            assert_eq!(buffer.bytes, content);
            // More or less than it says, cut short, not compressed at all, not fewer.
            let longer = [Run::data(0x1000, 0x3000)];
            let shorter = [Run::data(0x1000, 0x1000)];
            for bad in [
                packed_batch(kind, &longer, 0x3000, packed),
                packed_batch(kind, &shorter, 0x1000, packed),
                packed_batch(kind, &runs, content.len(), &packed[..packed.len() - 1]),
                packed_batch(kind, &runs, content.len(), &[0xff; 64]),
                packed_batch(kind, &runs, content.len(), &content),
                packed_batch(KIND_PAGES, &runs, content.len(), packed),
            ] {
                assert!(buffer.read(&mut bad.as_slice()).is_err());
            }
            let mut damaged = good.clone();
            *damaged.last_mut().expect("bytes") ^= 1;
            assert!(buffer.read(&mut damaged.as_slice()).expect_err("damaged").to_string().contains("checksum"));
        }
    }

    #[test]
    fn a_batch_goes_through_and_a_damaged_one_does_not() {
        let runs = [Run::data(0x1000, 0x1000), Run::zero(0x8000, 0x3000)];
        let good = batch(&runs, &[7; 4096]);
        let mut buffer = BatchBuffer::default();
        assert!(buffer.read(&mut good.as_slice()).unwrap().is_some());
        assert_eq!((buffer.runs.as_slice(), buffer.bytes.len()), (runs.as_slice(), 4096));
        for at in [8, 16, 60, 100, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(buffer.read(&mut bad.as_slice()).is_err(), "a flipped bit at {at} was not seen");
        }
        assert!(buffer.read(&mut &good[..good.len() - 1]).is_err());
        assert!(buffer.read(&mut &[][..]).unwrap().is_none());
    }

    #[test]
    fn lengths_are_refused_before_they_are_believed() {
        let mut header = batch(&[], &[]);
        header[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(BatchBuffer::default().read(&mut header.as_slice()), Err(BatchError::Invalid(_))));
        assert!(
            BatchBuffer::default()
                .read(&mut batch(&[Run::data(u64::MAX - 4095, 4096)], &[0; 4096]).as_slice())
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = BatchBuffer::default().read(&mut bytes.as_slice());
        }

        #[test]
        fn any_compressed_bytes_are_read_without_panic(
            kind in KIND_LZ4..=KIND_ZSTD,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut buffer = BatchBuffer::default();
            let _ = buffer.read(&mut packed_batch(kind, &[Run::data(0, 4096)], 4096, &bytes).as_slice());
            prop_assert!(buffer.bytes.capacity() <= BATCH_BYTES);
        }
    }
}
