//! The source's end of the page streams: worker threads that read pages from the process and send them.
//!
//! The threads are there before the freeze and wait for rounds; a round is a list of chunks that they take turns with.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::sockets;
use zerocopy::{FromZeros, IntoBytes};

use super::compress::Compressor;
use super::pace::{PIECE, Pace};
use crate::error::{Doing, Error, Result};
use crate::image::layout::PAGE;
use crate::plan::Options;
use crate::protocol::pages::{
    Answer, BATCH_BYTES, BATCH_RUNS, Header, KIND_BARRIER, KIND_PAGES, MAGIC, REASON_LIMIT, Run,
};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(100);

/// Pages that go in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// 0: the process's own addresses; else a shared object.
    pub object: u32,
    /// Start and length in bytes, ascending.
    pub runs: Vec<(u64, u64)>,
    /// Pages of zeros must be sent as such; else they are left out, because the destination has zeros there.
    pub zeros_matter: bool,
}

/// Cuts ranges into chunks.
#[derive(Debug, Default)]
pub struct Chunks {
    list: Vec<Chunk>,
    open_bytes: u64,
}

impl Chunks {
    /// Adds a range of pages.
    pub fn add(&mut self, object: u32, zeros_matter: bool, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let fits = self.list.last().is_some_and(|last| {
                last.object == object
                    && last.zeros_matter == zeros_matter
                    && last.runs.len() < BATCH_RUNS / 2
                    && self.open_bytes < BATCH_BYTES as u64
            });
            if !fits {
                self.list.push(Chunk { object, runs: Vec::new(), zeros_matter });
                self.open_bytes = 0;
            }
            let length = (end - at).min(BATCH_BYTES as u64 - self.open_bytes);
            if let Some(last) = self.list.last_mut() {
                last.runs.push((at, length));
            }
            self.open_bytes += length;
            at += length;
        }
    }

    /// The chunks.
    pub fn finish(self) -> Vec<Chunk> {
        self.list
    }
}

/// What the streams have done so far; read while they work.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes on the wire.
    pub bytes: AtomicU64,
    /// Pages with content.
    pub pages: AtomicU64,
    /// Pages of zeros, sent as a note or left out.
    pub zero_pages: AtomicU64,
    /// Bytes that were compressed, before and after.
    pub compressed_from: AtomicU64,
    /// See `compressed_from`.
    pub compressed_to: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Counters")]
pub struct Counted {
    pub bytes: u64,
    pub pages: u64,
    pub zero_pages: u64,
    pub compressed_from: u64,
    pub compressed_to: u64,
}

impl Counters {
    /// As they are now.
    pub fn snapshot(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            bytes: read(&self.bytes),
            pages: read(&self.pages),
            zero_pages: read(&self.zero_pages),
            compressed_from: read(&self.compressed_from),
            compressed_to: read(&self.compressed_to),
        }
    }
}

/// Where pages are read.
#[derive(Debug)]
pub struct PageSource {
    /// The process.
    pub memory: ProcessMemory,
    /// Shared objects by their number, from 1; None: it is not mapped any more.
    pub objects: Mutex<Vec<Option<Arc<std::fs::File>>>>,
}

struct Round {
    number: u32,
    layout: u32,
    /// The process runs: what it has unmapped since can be left out.
    running: bool,
    chunks: Arc<Vec<Chunk>>,
    next: Arc<AtomicUsize>,
}

struct Worker {
    rounds: Sender<Round>,
    thread: JoinHandle<()>,
}

/// The page streams of one migration.
pub struct PageStreams {
    workers: Vec<Worker>,
    finished: Receiver<Result<()>>,
    /// How many of them are in a round.
    busy: Cell<usize>,
    /// Copies of the connections, to ask them how fast they are. Empty unless they are held back.
    held_back: Vec<TcpStream>,
    /// What they have done.
    pub counters: Arc<Counters>,
}

impl PageStreams {
    /// Starts a thread for each connection.
    pub fn start(connections: Vec<TcpStream>, source: Arc<PageSource>, options: &Options) -> Result<PageStreams> {
        let counters = Arc::new(Counters::default());
        let (done, finished) = channel();
        let pace = options.bandwidth.map(|rate| Arc::new(Pace::new(rate)));
        let (mut workers, mut held_back) = (Vec::new(), Vec::new());
        for stream in connections {
            if pace.is_some() {
                held_back.push(stream.try_clone().doing(|| "duplicate a page connection".into())?);
            }
            let (rounds, receiver) = channel();
            let done = done.clone();
            let compressor = Compressor::new(options.compress);
            let wire = Wire { stream, counters: counters.clone(), compressor, pace: pace.clone() };
            let source = source.clone();
            let thread = std::thread::Builder::new()
                .name("pages".into())
                .spawn(move || work(wire, &source, &receiver, &done))
                .doing(|| "start a page stream".into())?;
            workers.push(Worker { rounds, thread });
        }
        Ok(PageStreams { workers, finished, busy: Cell::new(0), held_back, counters })
    }

    /// Begins a round. Its pages may be placed once the destination's layout is at `layout`. `running`: what the process has
    /// unmapped since is left out; in the freeze that is an error.
    pub fn begin_round(&self, number: u32, layout: u32, running: bool, chunks: Vec<Chunk>) -> Result<()> {
        let (chunks, next) = (Arc::new(chunks), Arc::new(AtomicUsize::new(0)));
        for worker in &self.workers {
            let round = Round { number, layout, running, chunks: chunks.clone(), next: next.clone() };
            worker.rounds.send(round).map_err(|_| Error::Invalid("a page stream has ended".into()))?;
            self.busy.set(self.busy.get() + 1);
        }
        Ok(())
    }

    /// Waits until every page of the round is in place at the destination, and tells meanwhile how many bytes have gone. Nothing to do
    /// when that has been waited for. An error of `progress` ends the waiting; the round goes on until this is dropped and the
    /// destination has closed.
    pub fn finish_round(&self, mut progress: impl FnMut(u64) -> Result<()>) -> Result<()> {
        while self.busy.get() > 0 {
            match self.finished.recv_timeout(PROGRESS) {
                Ok(result) => {
                    result?;
                    self.busy.set(self.busy.get() - 1);
                }
                Err(RecvTimeoutError::Timeout) => progress(self.counters.snapshot().bytes)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Invalid("the page streams have ended".into()));
                }
            }
        }
        Ok(())
    }

    /// Bytes a second that the link carries, as TCP sees it, when `--bandwidth` does not let all of it be used: what a freeze can
    /// count on. None without that limit, or without knowing.
    pub fn link_rate(&self) -> Option<u64> {
        // They share the link, and each has had it for itself now and then.
        self.held_back.iter().filter_map(|stream| sockets::delivery_rate(stream).ok()).max().filter(|rate| *rate > 0)
    }

    /// Closes the connections and waits for the threads.
    pub fn close(self) {
        drop(self.finished);
        for worker in self.workers {
            drop(worker.rounds);
            // A panicked worker has reported nothing, and its round has failed already.
            let _ = worker.thread.join();
        }
    }
}

/// One connection.
struct Wire {
    stream: TcpStream,
    counters: Arc<Counters>,
    compressor: Compressor,
    /// Holds it back while the process runs.
    pace: Option<Arc<Pace>>,
}

fn work(mut wire: Wire, source: &PageSource, rounds: &Receiver<Round>, done: &Sender<Result<()>>) {
    let mut buffer = vec![0u8; BATCH_BYTES];
    while let Ok(round) = rounds.recv() {
        let result = wire.send_round(source, &round, &mut buffer);
        let failed = result.is_err();
        if done.send(result).is_err() || failed {
            return;
        }
    }
}

impl Wire {
    fn send_round(&mut self, source: &PageSource, round: &Round, buffer: &mut [u8]) -> Result<()> {
        let mut runs = Vec::with_capacity(BATCH_RUNS);
        while let Some(chunk) = round.chunks.get(round.next.fetch_add(1, Ordering::Relaxed)) {
            let rest;
            let chunk = match read_chunk(source, chunk, buffer) {
                Ok(()) => chunk,
                Err(_) if round.running => {
                    rest = read_what_is_left(source, chunk, buffer);
                    &rest
                }
                Err(e) => return Err(e),
            };
            let bytes = &mut buffer[..chunk.bytes()];
            runs.clear();
            let (kept, zero_pages) = pack(chunk, bytes, &mut runs);
            self.counters.zero_pages.fetch_add(zero_pages, Ordering::Relaxed);
            self.counters.pages.fetch_add(kept as u64 / PAGE, Ordering::Relaxed);
            // Cut where zeros broke up the runs into more than a batch may have.
            let mut at = 0;
            for part in runs.chunks(BATCH_RUNS) {
                let data: u64 = part.iter().filter(|r| !r.is_zero()).map(Run::len).sum();
                let end = at + data as usize;
                self.send_batch(KIND_PAGES, round, chunk.object, part, &bytes[at..end])?;
                at = end;
            }
        }
        self.send_batch(KIND_BARRIER, round, 0, &[], &[])?;
        wait_for_answer(&mut self.stream, round.number)
    }

    fn send_batch(&mut self, kind: u32, round: &Round, object: u32, runs: &[Run], bytes: &[u8]) -> Result<()> {
        let (kind, sent) = self.compressor.pack(bytes).unwrap_or((kind, bytes));
        let mut header = Header {
            magic: MAGIC.into(),
            kind: kind.into(),
            round: round.number.into(),
            layout: round.layout.into(),
            object: object.into(),
            runs: (runs.len() as u32).into(),
            bytes: (bytes.len() as u32).into(),
            packed: (sent.len() as u32).into(),
            checksum: 0.into(),
        };
        header.checksum = header.checksum_of(runs, sent).into();
        let mut parts = [IoSlice::new(header.as_bytes()), IoSlice::new(runs.as_bytes()), IoSlice::new(sent)];
        let total = size_of::<Header>() + size_of_val(runs) + sent.len();
        let began = Instant::now();
        match &self.pace {
            Some(pace) if round.running => write_paced(&mut self.stream, &parts, pace),
            _ => write_all_vectored(&mut self.stream, &mut parts),
        }
        .doing(|| "send pages".into())?;
        if sent.len() < bytes.len() {
            self.counters.compressed_from.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.counters.compressed_to.fetch_add(sent.len() as u64, Ordering::Relaxed);
        }
        self.counters.bytes.fetch_add(total as u64, Ordering::Relaxed);
        self.compressor.sent(total, began.elapsed());
        Ok(())
    }
}

impl Chunk {
    fn bytes(&self) -> usize {
        self.runs.iter().map(|(_, length)| *length as usize).sum()
    }
}

/// The runs of a chunk that can still be read. What cannot is no longer mapped: if it comes back, it comes back as new memory,
/// and the next look finds all of it.
fn read_what_is_left(source: &PageSource, chunk: &Chunk, buffer: &mut [u8]) -> Chunk {
    let mut left = Chunk { runs: Vec::new(), ..chunk.clone() };
    let mut at = 0;
    for &(start, length) in &chunk.runs {
        for page in (start..start + length).step_by(PAGE as usize) {
            let one = Chunk { runs: vec![(page, PAGE)], ..chunk.clone() };
            if read_chunk(source, &one, &mut buffer[at..]).is_ok() {
                left.runs.push((page, PAGE));
                at += PAGE as usize;
            }
        }
    }
    left
}

/// Fills the buffer with a chunk's pages, one run after the other.
pub(super) fn read_chunk(source: &PageSource, chunk: &Chunk, buffer: &mut [u8]) -> Result<()> {
    let bytes = &mut buffer[..chunk.bytes()];
    if chunk.object == 0 {
        let ranges: Vec<(u64, usize)> = chunk.runs.iter().map(|&(start, length)| (start, length as usize)).collect();
        return source.memory.read_ranges(&ranges, bytes).doing(|| "read the process's pages".into());
    }
    let objects = source.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let object = objects.get(chunk.object as usize - 1).cloned().flatten();
    drop(objects);
    let object = object.ok_or_else(|| Error::Invalid(format!("shared object {} is not open", chunk.object)))?;
    let mut at = 0;
    for &(start, length) in &chunk.runs {
        let to = &mut bytes[at..at + length as usize];
        read_to_the_end(&object, to, start).doing(|| "read shared memory".into())?;
        at += length as usize;
    }
    Ok(())
}

/// Behind its end a file's last page is zeros.
fn read_to_the_end(file: &File, mut to: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !to.is_empty() {
        match file.read_at(to, at) {
            Ok(0) => {
                to.fill(0);
                return Ok(());
            }
            Ok(n) => {
                at += n as u64;
                to = &mut to[n..];
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Finds the pages of zeros and closes up the others. Returns how many bytes are left, and how many pages were zero.
fn pack(chunk: &Chunk, bytes: &mut [u8], runs: &mut Vec<Run>) -> (usize, u64) {
    let page = PAGE as usize;
    let (mut from, mut to, mut zero_pages) = (0, 0, 0);
    for &(start, length) in &chunk.runs {
        let mut address = start;
        while address < start + length {
            let is_zero = is_zero(&bytes[from..from + page]);
            let mut end = address + PAGE;
            let mut behind = from + page;
            while end < start + length && self::is_zero(&bytes[behind..behind + page]) == is_zero {
                end += PAGE;
                behind += page;
            }
            if is_zero {
                zero_pages += (end - address) / PAGE;
                if chunk.zeros_matter {
                    runs.push(Run::zero(address, end - address));
                }
            } else {
                if from != to {
                    bytes.copy_within(from..behind, to);
                }
                to += behind - from;
                runs.push(Run::data(address, end - address));
            }
            (address, from) = (end, behind);
        }
    }
    (to, zero_pages)
}

pub(super) fn is_zero(page: &[u8]) -> bool {
    // Most pages that are not zero show it in their first words.
    page.chunks_exact(128)
        .all(|chunk| chunk.chunks_exact(8).fold(0, |all, w| all | w.try_into().map_or(1, u64::from_ne_bytes)) == 0)
}

fn write_paced(stream: &mut TcpStream, parts: &[IoSlice<'_>], pace: &Pace) -> io::Result<()> {
    parts.iter().flat_map(|part| part.chunks(PIECE)).try_for_each(|piece| {
        pace.wait(piece.len());
        stream.write_all(piece)
    })
}

fn write_all_vectored(stream: &mut TcpStream, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match stream.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut parts, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn wait_for_answer(stream: &mut TcpStream, round: u32) -> Result<()> {
    let mut answer = Answer::new_zeroed();
    stream.read_exact(answer.as_mut_bytes()).doing(|| "wait for the pages to be in place".into())?;
    let length = answer.reason.get() as usize;
    if length > REASON_LIMIT || answer.round.get() != round {
        return Err(Error::Invalid("the destination's answer on a page stream makes no sense".into()));
    }
    if length == 0 {
        return Ok(());
    }
    let mut reason = vec![0; length];
    stream.read_exact(&mut reason).doing(|| "wait for a reason".into())?;
    Err(Error::Invalid(format!("the destination could not place pages: {}", String::from_utf8_lossy(&reason))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_packed_out() {
        let mut bytes = [vec![1u8; 4096], vec![0; 8192], vec![2; 4096]].concat();
        let mut chunk = Chunk { object: 0, runs: vec![(0x1000, 0x4000)], zeros_matter: true };
        let mut runs = Vec::new();
        assert_eq!(pack(&chunk, &mut bytes.clone(), &mut runs), (8192, 2));
        assert_eq!(runs, vec![Run::data(0x1000, 4096), Run::zero(0x2000, 8192), Run::data(0x4000, 4096)]);
        chunk.zeros_matter = false;
        runs.clear();
        pack(&chunk, &mut bytes, &mut runs);
        assert_eq!(runs, vec![Run::data(0x1000, 4096), Run::data(0x4000, 4096)]);
        assert_eq!((bytes[0], bytes[4096]), (1, 2));
    }

    #[test]
    fn chunks_keep_their_limits() {
        let mut chunks = Chunks::default();
        chunks.add(0, false, 0, 5 << 19);
        chunks.add(1, true, 0, 4096);
        let list = chunks.finish();
        let sizes: Vec<u64> = list.iter().map(|c| c.runs.iter().map(|r| r.1).sum()).collect();
        assert_eq!(sizes, vec![1 << 20, 1 << 20, 1 << 19, 4096]);
    }
}
