//! The content of a regular file, as its build-id or its digest.

use super::nanoseconds;
use object::elf::{ELF_NOTE_GNU, FileHeader32, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef};
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Contents that were read before, kept by what `stat` says of the file, so that one file is read once.
///
/// Of bounded size.
#[derive(Debug, Default)]
pub struct DigestCache {
    contents: HashMap<Version, Content>,
}

/// A file in one state. The change time is in it because the modification time can be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    dev: u64,
    ino: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) build_id: Option<Vec<u8>>,
    pub(super) digest: Option<[u8; 32]>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl DigestCache {
    const MOST: usize = 4096;

    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many contents it holds.
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// The content of a regular file, whose `metadata` were just read.
    pub(super) fn read(&mut self, file: &File, metadata: &Metadata) -> io::Result<Content> {
        let version = Version::of(metadata);
        if let Some(content) = self.contents.get(&version) {
            return Ok(content.clone());
        }
        // A description of our own: the file may be open for writing only, and its offset is not ours to move.
        let mut own = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let content = read_content(&mut own, version.size)?;
        if Version::of(&own.metadata()?) != version {
            return Err(io::Error::other("it changed while it was read"));
        }
        if self.contents.len() >= Self::MOST {
            self.contents.clear();
        }
        self.contents.insert(version, content.clone());
        Ok(content)
    }
}

fn read_content(file: &mut File, size: u64) -> io::Result<Content> {
    if let Some(build_id) = read_build_id(file) {
        return Ok(Content { build_id: Some(build_id), digest: None });
    }
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file.take(size))?;
    Ok(Content { build_id: None, digest: Some(*hasher.finalize().as_bytes()) })
}

/// The build-id of an ELF file (`ld --build-id`), or `None`: also for an ELF file that is malformed or keeps it
/// elsewhere than in the first few of its note segments.
fn read_build_id(file: &File) -> Option<Vec<u8>> {
    let cache = ReadCache::new(file);
    let data = Bounded(&cache);
    match FileKind::parse(data).ok()? {
        FileKind::Elf32 => build_id_of::<FileHeader32<Endianness>>(data),
        FileKind::Elf64 => build_id_of::<FileHeader64<Endianness>>(data),
        _ => None,
    }
}

fn build_id_of<'data, Elf: FileHeader<Endian = Endianness>>(data: Bounded<'data>) -> Option<Vec<u8>> {
    const MOST_SEGMENTS: usize = 16;
    const LONGEST: usize = 64;
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut seen = 0;
    for segment in segments {
        let Ok(Some(mut notes)) = segment.notes(endian, data) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID {
                let id = note.desc();
                return (!id.is_empty() && id.len() <= LONGEST).then(|| id.to_vec());
            }
        }
        seen += 1;
        if seen == MOST_SEGMENTS {
            break;
        }
    }
    None
}

/// A file of which only small parts are read: whatever sizes it claims, a read is for 64 KiB at most.
#[derive(Clone, Copy)]
struct Bounded<'data>(&'data ReadCache<&'data File>);

impl<'data> ReadRef<'data> for Bounded<'data> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        const MOST: u64 = 64 << 10;
        if size > MOST {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: std::ops::Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}
