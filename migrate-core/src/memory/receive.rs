//! The destination's end of the page streams: pages go straight to their final place in the new process.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use migrate_linux::process_memory::ProcessMemory;
use zerocopy::IntoBytes;

use crate::error::{Doing, Error, Result};
use crate::image::layout::PAGE;
use crate::memory::fresh::Fresh;
use crate::protocol::pages::{Answer, BATCH_BYTES, BatchBuffer, Header, KIND_BARRIER, REASON_LIMIT, Run};

/// How long the last pages of a frozen process may take. The source gives up earlier when its connection breaks.
const LAST_PAGES: Duration = Duration::from_secs(3600);

/// Where pages are placed. Shared by the streams and by the thread that builds the process.
#[derive(Debug)]
pub struct Placement {
    memory: ProcessMemory,
    stand: Mutex<Stand>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Stand {
    /// Which layout is in place; None: the process is given up.
    layout: Option<u32>,
    objects: HashMap<u32, Object>,
    /// Private memory that has no pages yet, until all streams are through with the first round.
    fresh: Option<(Arc<Fresh>, usize)>,
    /// The round that each stream is through with, and with those before it.
    barriers: Vec<u32>,
    /// A page could not be placed, or a stream broke.
    failed: bool,
}

/// Shared memory. Behind its end nothing may be written: that would make it longer.
#[derive(Debug)]
struct Object {
    file: Arc<File>,
    size: u64,
}

impl Placement {
    /// For a process whose first layout is in place.
    pub fn new(memory: ProcessMemory) -> Placement {
        let stand = Stand { layout: Some(0), ..Stand::default() };
        Placement { memory, stand: Mutex::new(stand), changed: Condvar::new() }
    }

    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Private memory that nothing but the first round of so many streams touches until that is over.
    pub fn begin_with(&self, fresh: Fresh, streams: usize) {
        self.stand().fresh = Some((Arc::new(fresh), streams));
    }

    /// The address space is about to change in these places. What is registered does not become one mapping with what is put beside it,
    /// and once both have pages never will.
    pub fn changes(&self, places: impl IntoIterator<Item = (u64, u64)>) {
        let mut stand = self.stand();
        let mut places = places.into_iter();
        if let Some((fresh, _)) = stand.fresh.take_if(|(fresh, _)| places.any(|(start, end)| fresh.touches(start, end)))
        {
            fresh.end();
        }
    }

    /// Adds a shared object of `size` bytes.
    pub fn add_object(&self, id: u32, file: Arc<File>, size: u64) {
        self.stand().objects.insert(id, Object { file, size });
    }

    /// It has another size now.
    pub fn resize_object(&self, id: u32, size: u64) {
        if let Some(object) = self.stand().objects.get_mut(&id) {
            object.size = size;
        }
    }

    /// The shared objects, by their numbers from 1.
    pub fn objects(&self) -> Result<Vec<Arc<File>>> {
        let stand = self.stand();
        let numbers = 1..=stand.objects.len() as u32;
        let object = |number| stand.objects.get(&number).map(|object| object.file.clone());
        let objects = numbers.map(object).collect::<Option<_>>();
        objects.ok_or_else(|| Error::Invalid("the shared objects' numbers make no sense".into()))
    }

    /// One layout further: pages that waited for it are placed.
    pub fn layout_done(&self) {
        let mut stand = self.stand();
        stand.layout = stand.layout.map(|n| n + 1);
        self.changed.notify_all();
    }

    /// A stream has come. Returns which it is.
    fn new_stream(&self) -> usize {
        let mut stand = self.stand();
        stand.barriers.push(0);
        stand.barriers.len() - 1
    }

    /// A stream has placed everything of this round and those before it.
    fn barrier(&self, stream: usize, round: u32) {
        let mut stand = self.stand();
        if let Some(through) = stand.barriers.get_mut(stream) {
            *through = round.max(*through);
        }
        let through = stand.barriers.iter().filter(|through| **through > 0).count();
        if let Some((fresh, _)) = stand.fresh.take_if(|(_, streams)| through >= *streams) {
            fresh.end();
        }
        self.changed.notify_all();
    }

    /// Waits until every stream has placed everything of a round.
    pub fn wait_for_round(&self, round: u32, streams: usize) -> Result<()> {
        let done = |s: &Stand| s.barriers.iter().filter(|through| **through >= round).count() >= streams;
        let stand =
            self.changed.wait_timeout_while(self.stand(), LAST_PAGES, |s| s.layout.is_some() && !s.failed && !done(s));
        let (stand, _) = stand.unwrap_or_else(PoisonError::into_inner);
        if done(&stand) { Ok(()) } else { Err(Error::Invalid("not all pages could be placed".into())) }
    }

    fn fail(&self) {
        self.stand().failed = true;
        self.changed.notify_all();
    }

    /// Nothing more will be placed.
    pub fn give_up(&self) {
        self.stand().layout = None;
        self.changed.notify_all();
    }

    fn wait_for_layout(&self, wanted: u32) -> Result<()> {
        let stand = self.changed.wait_while(self.stand(), |s| s.layout.is_some_and(|now| now < wanted));
        match stand.unwrap_or_else(PoisonError::into_inner).layout {
            Some(_) => Ok(()),
            None => Err(Error::Invalid("the process was given up".into())),
        }
    }

    fn place(&self, header: &Header, runs: &[Run], bytes: &[u8]) -> Result<()> {
        self.wait_for_layout(header.layout.get())?;
        let object = header.object.get();
        if object == 0 {
            let fresh = self.stand().fresh.as_ref().map(|(fresh, _)| fresh.clone());
            self.place_private(fresh.as_deref(), runs, bytes).doing(|| "place pages".into())?;
            for_each_zero_piece(runs, |at, zeros| self.memory.write(at, zeros)).doing(|| "place pages of zeros".into())
        } else {
            let known = self.stand().objects.get(&object).map(|object| (object.file.clone(), object.size));
            let (file, size) = known
                .ok_or_else(|| Error::Invalid(format!("pages for shared object {object}, which nobody announced")))?;
            let end = |run: &Run| run.start.get().saturating_add(run.len());
            if let Some(beyond) = runs.iter().find(|run| end(run) > size.next_multiple_of(PAGE)) {
                let end = end(beyond);
                return Err(Error::Invalid(format!(
                    "pages up to {end:#x} of shared object {object} of {size:#x} bytes"
                )));
            }
            let mut at = 0;
            for run in runs.iter().filter(|r| !r.is_zero()) {
                let end = at + run.len() as usize;
                write_inside(&file, size, &bytes[at..end], run.start.get()).doing(|| "place shared memory".into())?;
                at = end;
            }
            let zeros = for_each_zero_piece(runs, |at, zeros| write_inside(&file, size, zeros, at));
            zeros.doing(|| "place shared zeros".into())
        }
    }
}

impl Placement {
    fn place_private(&self, fresh: Option<&Fresh>, runs: &[Run], bytes: &[u8]) -> std::io::Result<()> {
        let mut others = Vec::new();
        let (mut at, mut begun) = (0, 0);
        for run in runs.iter().filter(|run| !run.is_zero()) {
            let (start, end) = (run.start.get(), at + run.len() as usize);
            match fresh.filter(|fresh| fresh.has(start, run.len())) {
                None => others.push((start, run.len() as usize)),
                Some(fresh) => {
                    self.memory.write_ranges(&std::mem::take(&mut others), &bytes[begun..at])?;
                    fresh.place(start, &bytes[at..end], &self.memory)?;
                    begun = end;
                }
            }
            at = end;
        }
        self.memory.write_ranges(&others, &bytes[begun..at])
    }
}

/// The last page of a file may go on behind its end.
fn write_inside(file: &File, size: u64, bytes: &[u8], at: u64) -> std::io::Result<()> {
    let inside = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
    file.write_all_at(&bytes[..bytes.len().min(inside)], at)
}

fn for_each_zero_piece(runs: &[Run], mut write: impl FnMut(u64, &[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    const PIECE: usize = 64 * 1024;
    static ZEROS: [u8; PIECE] = [0; PIECE];
    for run in runs.iter().filter(|r| r.is_zero()) {
        let (mut at, end) = (run.start.get(), run.start.get() + run.len());
        while at < end {
            let n = (end - at).min(PIECE as u64);
            write(at, &ZEROS[..n as usize])?;
            at += n;
        }
    }
    Ok(())
}

/// Serves one stream until it ends. A failure is answered at the next barrier, so that the source hears the reason.
pub fn serve(stream: TcpStream, placement: &Placement) -> Result<()> {
    let result = serve_batches(stream, placement);
    // Also when the source has closed it: whoever still waits for pages waits in vain.
    placement.fail();
    result
}

fn serve_batches(mut stream: TcpStream, placement: &Placement) -> Result<()> {
    let number = placement.new_stream();
    let mut buffer = BatchBuffer::default();
    buffer.bytes.reserve_exact(BATCH_BYTES);
    let mut failure = None;
    while let Some(header) = buffer.read(&mut stream).map_err(|e| Error::Invalid(e.to_string()))? {
        if header.kind.get() == KIND_BARRIER {
            if failure.is_none() {
                placement.barrier(number, header.round.get());
            }
            answer(&mut stream, header.round.get(), failure.as_deref())?;
        } else if failure.is_none() {
            failure = placement.place(&header, &buffer.runs, &buffer.bytes).err().map(|e| e.to_string());
            if failure.is_some() {
                placement.fail();
            }
        }
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, round: u32, failure: Option<&str>) -> Result<()> {
    let reason = failure.unwrap_or("").as_bytes();
    let reason = &reason[..reason.len().min(REASON_LIMIT)];
    let head = Answer { round: round.into(), reason: (reason.len() as u32).into() };
    stream.write_all(&[head.as_bytes(), reason].concat()).doing(|| "answer a barrier".into())
}

#[cfg(test)]
mod tests {
    use migrate_linux::map_files::new_shared_anonymous;
    use zerocopy::FromZeros;

    use super::*;

    fn placement() -> Placement {
        Placement::new(ProcessMemory::open(std::process::id() as i32).expect("the own memory"))
    }

    #[test]
    fn nothing_is_written_behind_the_end_of_shared_memory() {
        let placement = placement();
        let memory = File::from(new_shared_anonymous(4 * PAGE as usize).expect("shared memory"));
        placement.add_object(1, Arc::new(memory.try_clone().expect("a duplicate")), 4 * PAGE - 1);
        let header = Header { object: 1.into(), ..Header::new_zeroed() };
        let page = [7; PAGE as usize];
        placement.place(&header, &[Run::data(3 * PAGE, PAGE), Run::zero(0, 3 * PAGE)], &page).expect("placed");
        for beyond in [Run::data(4 * PAGE, PAGE), Run::zero(0, 5 * PAGE), Run::zero(PAGE, 1 << 62)] {
            assert!(placement.place(&header, &[beyond], &page).is_err());
        }
        assert_eq!(memory.metadata().expect("its size").len(), 4 * PAGE);
        assert!(placement.place(&Header { object: 2.into(), ..header }, &[Run::data(0, PAGE)], &page).is_err());
    }

    #[test]
    fn a_round_is_done_when_every_stream_says_so() {
        let placement = placement();
        let (first, second) = (placement.new_stream(), placement.new_stream());
        // However often one says it, and whatever else.
        for round in [1, 2, 2, u32::MAX] {
            placement.barrier(first, round);
        }
        placement.barrier(second, 1);
        placement.wait_for_round(1, 2).expect("both are through");
        placement.barrier(second, 3);
        placement.wait_for_round(3, 2).expect("with those before it too");
        placement.wait_for_round(2, 2).expect("with those before it too");
        placement.give_up();
        assert!(placement.wait_for_round(4, 2).is_err(), "one is not");
    }
}
