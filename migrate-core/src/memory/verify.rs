//! `--verify`: a digest of every mapping, of the original while it stands still and of the new process before it may run.
//!
//! A digest is a sum over pages, each hashed with its address, so that neither the order nor the cut matters. A page that is what
//! the kernel would show there by itself, zeros or the file's own, counts nothing: the two sides may hold such pages or not.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use bincode::{Decode, Encode};
use migrate_linux::pagemap::PageMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::select::{data_ranges, has_own_pages};
use super::send::{Chunk, Chunks, PageSource, is_zero, read_chunk};
use super::tracker::{DirtyTracker, Untracked};
use crate::error::{Doing, Error, Result};
use crate::image::layout::{Backing, Layout, PAGE, Vma};
use crate::protocol::pages::BATCH_BYTES;

/// Threads that compute one digest, at most.
const THREADS: usize = 4;

/// What the memory of a process is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Digest {
    /// Of each mapping that has pages of its own, ascending.
    pub mappings: Vec<OfMapping>,
    /// Of each shared object, by its number, from 1.
    pub objects: Vec<u64>,
}

/// The digest of one mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct OfMapping {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// The digest.
    pub digest: u64,
}

impl Digest {
    /// Of a process that stands still. `of`: whose mappings to tell apart, nearly always its own ones.
    ///
    /// Err: memory or a mapped file could not be read, or there are pages outside of these mappings.
    pub fn compute(layout: &Layout, source: &PageSource, of: &[(u64, u64)]) -> Result<Digest> {
        let pid = source.memory.pid();
        let pagemap = PageMap::open(pid).doing(|| format!("open the pagemap of {pid}"))?;
        let objects = source.objects.lock().unwrap_or_else(PoisonError::into_inner).len();
        let work = Work { layout, source, of, next: AtomicUsize::new(0), chunks: chunks(layout, source, &pagemap)? };
        let sums = Mutex::new(Sums { mappings: vec![0; of.len()], objects: vec![0; objects] });
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work.run(&sums))).collect();
            let result = work.run(&sums);
            let died = |_| Err(Error::Invalid("a thread that compares memory has died".into()));
            others.into_iter().fold(result, |result, other| result.and(other.join().unwrap_or_else(died)))
        })?;
        let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mappings = of.iter().zip(sums.mappings).map(|(&(start, end), digest)| OfMapping { start, end, digest });
        Ok(Digest { mappings: mappings.collect(), objects: sums.objects })
    }

    /// Of a process that stands still, by its own mappings.
    pub fn of(layout: &Layout, source: &PageSource) -> Result<Digest> {
        let own: Vec<(u64, u64)> = layout.vmas.iter().filter(|v| has_own_pages(v)).map(|v| (v.start, v.end)).collect();
        Digest::compute(layout, source, &own)
    }

    /// The first mapping that differs, in words. `layout` says what is mapped there.
    pub fn difference(&self, other: &Digest, layout: &Layout) -> Option<String> {
        let differing = self.mappings.iter().zip(&other.mappings).find(|(ours, theirs)| ours != theirs);
        if let Some((ours, _)) = differing {
            return Some(describe(ours.start, ours.end, layout));
        }
        if self.mappings.len() != other.mappings.len() || self.objects.len() != other.objects.len() {
            return Some("the number of its mappings".into());
        }
        let object = self.objects.iter().zip(&other.objects).position(|(ours, theirs)| ours != theirs)?;
        let number = object as u32 + 1;
        let maps_it = |v: &&Vma| matches!(v.backing, Backing::Object { object, .. } if object == number);
        Some(match layout.vmas.iter().find(maps_it) {
            Some(vma) => describe(vma.start, vma.end, layout),
            None => format!("shared memory {number}, which is mapped nowhere"),
        })
    }
}

fn describe(start: u64, end: u64, layout: &Layout) -> String {
    let what = match vma_at(layout, start).map(|v| &v.backing) {
        Some(Backing::File { file, .. }) => {
            layout.files.get(*file as usize).map_or("a file".into(), |f| String::from_utf8_lossy(&f.path).into_owned())
        }
        Some(Backing::Object { .. }) => "shared memory".into(),
        _ => "private memory".into(),
    };
    format!("mapping {start:x}-{end:x} ({what})")
}

fn vma_at(layout: &Layout, address: u64) -> Option<&Vma> {
    let at = layout.vmas.partition_point(|v| v.end <= address);
    layout.vmas.get(at).filter(|v| v.start <= address)
}

/// Everything that the process or its shared objects hold. No run goes over the end of a mapping.
fn chunks(layout: &Layout, source: &PageSource, pagemap: &PageMap) -> Result<Vec<Chunk>> {
    let mut chunks = Chunks::default();
    let own = Untracked.look(layout, pagemap, false)?.changed;
    for vma in layout.vmas.iter().filter(|v| has_own_pages(v)) {
        let first = own.ranges().partition_point(|r| r.end <= vma.start);
        for range in own.ranges()[first..].iter().take_while(|r| r.start < vma.end) {
            chunks.add(0, false, range.start.max(vma.start), range.end.min(vma.end));
        }
    }
    let objects = source.objects.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mapped = |number| {
        let is = |v: &Vma| matches!(v.backing, Backing::Object { object, .. } if object == number);
        layout.vmas.iter().any(is)
    };
    for (number, object) in (1..).zip(&objects) {
        // What was mapped once and is no longer is nobody's memory.
        let Some(object) = object.as_ref().filter(|_| mapped(number)) else { continue };
        for range in data_ranges(object).doing(|| "find the data of shared memory".into())? {
            chunks.add(number, false, range.start, range.end);
        }
    }
    Ok(chunks.finish())
}

struct Sums {
    mappings: Vec<u64>,
    objects: Vec<u64>,
}

struct Work<'a> {
    layout: &'a Layout,
    source: &'a PageSource,
    of: &'a [(u64, u64)],
    chunks: Vec<Chunk>,
    next: AtomicUsize,
}

impl Work<'_> {
    fn run(&self, sums: &Mutex<Sums>) -> Result<()> {
        let (mut buffer, mut files) = (vec![0; BATCH_BYTES], Files::default());
        let mut found = Vec::new();
        while let Some(chunk) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            read_chunk(self.source, chunk, &mut buffer)?;
            let mut at = 0;
            for &(start, length) in &chunk.runs {
                let pages = &buffer[at..at + length as usize];
                at += length as usize;
                let file = if chunk.object == 0 { files.content(self.layout, start, pages.len())? } else { None };
                for (i, page) in pages.chunks_exact(PAGE as usize).enumerate() {
                    let expected = match file {
                        Some(file) => page == &file[i * PAGE as usize..(i + 1) * PAGE as usize],
                        None => is_zero(page),
                    };
                    if !expected {
                        found.push((start + i as u64 * PAGE, xxh3_64(page)));
                    }
                }
            }
            self.add(chunk.object, &mut found, sums)?;
        }
        Ok(())
    }

    fn add(&self, object: u32, found: &mut Vec<(u64, u64)>, sums: &Mutex<Sums>) -> Result<()> {
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        for (address, hash) in found.drain(..) {
            let sum = match object {
                0 => {
                    let at = self.of.partition_point(|(_, end)| *end <= address);
                    let inside = self.of.get(at).is_some_and(|(start, _)| *start <= address);
                    sums.mappings.get_mut(at).filter(|_| inside)
                }
                number => sums.objects.get_mut(number as usize - 1),
            };
            let sum =
                sum.ok_or_else(|| Error::Refused(vec![format!("there is memory at {address:x} in one of them only")]))?;
            *sum = sum.wrapping_add(xxh3_64_with_seed(&address.to_le_bytes(), hash));
        }
        Ok(())
    }
}

/// Mapped files, opened as they are needed.
#[derive(Default)]
struct Files {
    open: Vec<(u32, File)>,
    content: Vec<u8>,
}

impl Files {
    /// What the file itself has for these addresses; None: no file is mapped there.
    fn content(&mut self, layout: &Layout, address: u64, length: usize) -> Result<Option<&[u8]>> {
        let Some(vma) = vma_at(layout, address) else { return Ok(None) };
        let Backing::File { file, offset } = vma.backing else { return Ok(None) };
        let at = match self.open.iter().position(|(number, _)| *number == file) {
            Some(at) => at,
            None => {
                let mapped = layout
                    .files
                    .get(file as usize)
                    .ok_or_else(|| Error::Invalid(format!("a mapping of file {file}")))?;
                let path = Path::new(std::ffi::OsStr::from_bytes(&mapped.path));
                let opened = File::open(path).doing(|| format!("open {} to compare it", path.display()))?;
                self.open.push((file, opened));
                self.open.len() - 1
            }
        };
        // Behind its end there are zeros.
        self.content.clear();
        self.content.resize(length, 0);
        let mut done = 0;
        while done < length {
            let from = offset + (address - vma.start) + done as u64;
            match self.open[at].1.read_at(&mut self.content[done..], from) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read a mapped file to compare it".into(), e)),
            }
        }
        Ok(Some(&self.content))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use migrate_linux::map_files::{SharedMapping, new_shared_anonymous};
    use migrate_linux::process_memory::ProcessMemory;

    use super::*;

    const SIZE: usize = 16 * PAGE as usize;

    fn vma(start: u64, end: u64, backing: Backing) -> Vma {
        Vma { start, end, protection: 3, shared: false, backing, flags: 0, name: Vec::new() }
    }

    /// Page-aligned memory of this process, with something in its third page.
    struct Memory(Vec<u8>);

    impl Memory {
        fn new() -> Memory {
            let mut memory = Memory(vec![0; SIZE + PAGE as usize]);
            memory.page(2).fill(7);
            memory
        }

        fn start(&self) -> u64 {
            (self.0.as_ptr() as u64).next_multiple_of(PAGE)
        }

        fn page(&mut self, number: usize) -> &mut [u8] {
            let skip = (self.start() - self.0.as_ptr() as u64) as usize + number * PAGE as usize;
            &mut self.0[skip..skip + PAGE as usize]
        }
    }

    fn source(objects: Vec<Option<Arc<File>>>) -> PageSource {
        let memory = ProcessMemory::open(std::process::id() as i32).expect("the own memory");
        PageSource { memory, objects: Mutex::new(objects) }
    }

    #[test]
    fn a_changed_byte_shows_in_its_mapping_and_nowhere_else() {
        let (mut one, mut two) = (Memory::new(), Memory::new());
        let mut vmas = [&one, &two].map(|m| vma(m.start(), m.start() + SIZE as u64, Backing::Anonymous)).to_vec();
        vmas.sort_by_key(|v| v.start);
        let layout = Layout { vmas, files: Vec::new() };
        let source = source(Vec::new());
        let before = Digest::of(&layout, &source).expect("readable");
        one.page(5).fill(0); // touched, and as if it had not been
        assert_eq!(before.difference(&Digest::of(&layout, &source).expect("readable"), &layout), None);
        two.page(2)[4095] ^= 1;
        let words = before.difference(&Digest::of(&layout, &source).expect("readable"), &layout).expect("a difference");
        assert_eq!(words, format!("mapping {:x}-{:x} (private memory)", two.start(), two.start() + SIZE as u64));
        // The same page at another place is not the same memory.
        two.page(2)[4095] ^= 1;
        two.page(2).fill(0);
        two.page(3).fill(7);
        assert!(before.difference(&Digest::of(&layout, &source).expect("readable"), &layout).is_some());
        assert!(Digest::compute(&layout, &source, &[(one.start(), one.start() + SIZE as u64)]).is_err());
    }

    #[test]
    fn pages_as_the_file_has_them_count_nothing() {
        let mut memory = Memory::new();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [[7; PAGE as usize], [8; PAGE as usize]].concat()).expect("written");
        let files = vec![crate::image::layout::MappedFile {
            path: file.path().as_os_str().as_encoded_bytes().to_vec(),
            writable: false,
            stamp: Default::default(),
        }];
        let start = memory.start() + 2 * PAGE;
        let backing = Backing::File { file: 0, offset: 0 };
        let layout = Layout { vmas: vec![vma(start, start + 4 * PAGE, backing)], files };
        memory.page(3).fill(8);
        memory.page(4).fill(0);
        let source = source(Vec::new());
        assert_eq!(Digest::of(&layout, &source).expect("readable").mappings[0].digest, 0);
        memory.page(3)[17] = 0;
        let now = Digest::of(&layout, &source).expect("readable");
        let none = Digest { mappings: vec![OfMapping { digest: 0, ..now.mappings[0] }], objects: Vec::new() };
        let words = now.difference(&none, &layout).expect("a difference");
        assert!(words.ends_with(&format!("({})", file.path().display())), "{words}");
    }

    #[test]
    fn shared_memory_is_compared_whole() {
        let object = new_shared_anonymous(SIZE).expect("shared memory");
        let mapping = SharedMapping::new(&object, SIZE).expect("mapped");
        let vmas = vec![vma(mapping.address(), mapping.address() + PAGE, Backing::Object { object: 1, offset: 0 })];
        let layout = Layout { vmas, files: Vec::new() };
        let source = source(vec![Some(Arc::new(File::from(object)))]);
        let before = Digest::of(&layout, &source).expect("readable");
        mapping.write(8 * PAGE as usize, &[0; 8]).expect("written");
        assert_eq!(before, Digest::of(&layout, &source).expect("readable"));
        mapping.write(8 * PAGE as usize, &[1]).expect("written");
        let words = before.difference(&Digest::of(&layout, &source).expect("readable"), &layout).expect("a difference");
        assert!(words.ends_with("(shared memory)"), "{words}");
    }
}
