//! Compression of page batches, each by itself: only what gets smaller is sent compressed.

use std::time::{Duration, Instant};

use crate::plan::Compression;
use crate::protocol::pages::{KIND_LZ4, KIND_ZSTD};

/// Level of zstd: more cost more time than they save on any link worth moving a process over.
const LEVEL: i32 = 1;

/// What one page stream compresses with.
pub struct Compressor {
    wanted: Compression,
    adaptive: Adaptive,
    packed: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// As the operator wants it.
    pub fn new(wanted: Compression) -> Compressor {
        Compressor { wanted, adaptive: Adaptive::default(), packed: Vec::new(), zstd: None }
    }

    /// Compresses a batch, if it should be, and if that makes it smaller. Returns the kind of batch that it is now.
    pub fn pack(&mut self, bytes: &[u8]) -> Option<(u32, &[u8])> {
        let codec = match self.wanted {
            Compression::Off => None,
            Compression::Lz4 => Some(Codec::Lz4),
            Compression::Zstd => Some(Codec::Zstd),
            Compression::Auto => self.adaptive.choose(bytes.len()),
        }?;
        let began = Instant::now();
        let length = match codec {
            Codec::Lz4 => self.lz4(bytes),
            Codec::Zstd => self.zstd(bytes),
        };
        let length = length.filter(|packed| *packed < bytes.len());
        self.adaptive.packed(codec, bytes.len(), length.unwrap_or(bytes.len()), began.elapsed());
        let kind = match codec {
            Codec::Lz4 => KIND_LZ4,
            Codec::Zstd => KIND_ZSTD,
        };
        length.map(|length| (kind, &self.packed[..length]))
    }

    /// So many bytes took so long to send.
    pub fn sent(&mut self, bytes: usize, took: Duration) {
        self.adaptive.sent(bytes, took);
    }

    fn lz4(&mut self, bytes: &[u8]) -> Option<usize> {
        self.make_room(lz4_flex::block::get_maximum_output_size(bytes.len()));
        lz4_flex::block::compress_into(bytes, &mut self.packed).ok()
    }

    /// None also when it would not get smaller.
    fn zstd(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        self.make_room(bytes.len());
        self.zstd.as_mut()?.compress_to_buffer(bytes, &mut self.packed[..bytes.len()]).ok()
    }

    fn make_room(&mut self, length: usize) {
        if self.packed.len() < length {
            self.packed.resize(length, 0);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Lz4,
    Zstd,
}

/// A stream faster than this (seconds for a byte: 200 MB/s) is never compressed: the processor has better things to do, and trying
/// would cost time.
const FAST: f64 = 1.0 / 200e6;
/// Batches smaller than this say nothing about the link.
const TELLING: usize = 64 << 10;
/// Every how many batches a codec that is not in use is tried again: what memory holds differs from place to place.
const AGAIN: u32 = 32;

/// Chooses what is fastest, from what it has seen on this stream.
#[derive(Debug, Default)]
struct Adaptive {
    /// Seconds to send a byte, averaged over the latest batches.
    sending: Option<f64>,
    /// The same for each codec: seconds to compress a byte, and what becomes of it.
    lz4: Option<(f64, f64)>,
    zstd: Option<(f64, f64)>,
    batches: u32,
}

impl Adaptive {
    fn choose(&mut self, bytes: usize) -> Option<Codec> {
        let sending = self.sending.filter(|seconds| *seconds > FAST && bytes >= TELLING)?;
        self.batches = self.batches.wrapping_add(1);
        match (self.lz4, self.zstd, self.batches % AGAIN) {
            (None, ..) | (.., 0) => return Some(Codec::Lz4),
            (_, None, _) | (.., 1) => return Some(Codec::Zstd),
            _ => {}
        }
        let seconds = |codec: Option<(f64, f64)>| codec.map_or(f64::INFINITY, |(cost, ratio)| cost + ratio * sending);
        let (lz4, zstd) = (seconds(self.lz4), seconds(self.zstd));
        match (lz4.min(zstd) < sending, lz4 <= zstd) {
            (false, _) => None,
            (true, true) => Some(Codec::Lz4),
            (true, false) => Some(Codec::Zstd),
        }
    }

    fn packed(&mut self, codec: Codec, bytes: usize, packed: usize, took: Duration) {
        if bytes < TELLING {
            return;
        }
        let seen = (took.as_secs_f64() / bytes as f64, packed as f64 / bytes as f64);
        let known = match codec {
            Codec::Lz4 => &mut self.lz4,
            Codec::Zstd => &mut self.zstd,
        };
        *known = Some(known.map_or(seen, |(cost, ratio)| (average(cost, seen.0), average(ratio, seen.1))));
    }

    fn sent(&mut self, bytes: usize, took: Duration) {
        if bytes >= TELLING {
            let seen = took.as_secs_f64() / bytes as f64;
            self.sending = Some(self.sending.map_or(seen, |known| average(known, seen)));
        }
    }
}

fn average(known: f64, seen: f64) -> f64 {
    known * 0.75 + seen * 0.25
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 1 << 20;

    /// What 200 batches are sent as, over a link of so many bytes a second, when lz4 makes them half as long at 500 MB/s and zstd a
    /// third at 200 MB/s.
    fn choices(link: f64) -> Vec<Option<Codec>> {
        let mut adaptive = Adaptive::default();
        (0..200)
            .map(|_| {
                let codec = adaptive.choose(BATCH);
                let (speed, share) = match codec {
                    None => (f64::INFINITY, 1),
                    Some(Codec::Lz4) => (500e6, 2),
                    Some(Codec::Zstd) => (200e6, 3),
                };
                let length = BATCH / share;
                if let Some(codec) = codec {
                    adaptive.packed(codec, BATCH, length, Duration::from_secs_f64(BATCH as f64 / speed));
                }
                adaptive.sent(length, Duration::from_secs_f64(length as f64 / link));
                codec
            })
            .collect()
    }

    #[test]
    fn chooses_what_is_fastest() {
        let most = |link| {
            let all = choices(link);
            let of = |codec| all.iter().filter(|c| **c == codec).count();
            [None, Some(Codec::Lz4), Some(Codec::Zstd)].into_iter().max_by_key(|c| of(*c)).expect("one")
        };
        assert!(choices(1e9).iter().all(Option::is_none), "nothing is tried on a fast link");
        assert_eq!(most(125e6), Some(Codec::Lz4));
        assert_eq!(most(12e6), Some(Codec::Zstd));
        // Once it knows, it tries the other one now and then.
        assert!(choices(12e6).iter().filter(|c| **c == Some(Codec::Lz4)).count() < 12);
    }

    #[test]
    fn a_link_that_gets_fast_is_no_longer_compressed() {
        let mut adaptive = Adaptive::default();
        adaptive.sent(BATCH, Duration::from_secs(1));
        assert!(adaptive.choose(BATCH).is_some());
        assert!(adaptive.choose(4096).is_none());
        for _ in 0..40 {
            adaptive.sent(BATCH, Duration::from_micros(300));
        }
        assert!(adaptive.choose(BATCH).is_none());
    }

    #[test]
    fn only_what_gets_smaller_is_kept() {
        let text = b"over and over again ".repeat(5000);
        let mut state = 1u64;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        for (wanted, kind) in [(Compression::Lz4, KIND_LZ4), (Compression::Zstd, KIND_ZSTD)] {
            let mut compressor = Compressor::new(wanted);
            let (seen, packed) = compressor.pack(&text).expect("smaller");
            assert!(seen == kind && packed.len() < text.len() / 10);
            assert!(compressor.pack(&noise).is_none());
        }
        assert!(Compressor::new(Compression::Off).pack(&text).is_none());
    }
}
