//! Pre-copy: the destination makes the process and receives its pages while it still runs here.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use migrate_linux::map_files;
use migrate_linux::pagemap::PageMap;
use migrate_linux::process_memory::ProcessMemory;

use super::freeze::{Frozen, freeze};
use super::record::Record;
use super::subject::Subject;
use super::undo::UndoList;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::image::layout::{Layout, LayoutChange};
use crate::image::{LayoutUpdate, Skeleton};
use crate::memory::decide::{Decision, Limits, Past, decide};
use crate::memory::page_set::PageSet;
use crate::memory::select;
use crate::memory::send::{Chunk, Chunks, PageSource, PageStreams};
use crate::memory::tracker::{DirtyTracker, Look, PagemapScan, Untracked, unavailable};
use crate::phase::Phase;
use crate::plan::{Plan, TrackerChoice};
use crate::protocol::message::{ToDestination, ToSource};

/// Both sides have agreed. Nothing has been changed.
#[must_use]
pub struct Ready<'r, 'o> {
    pub(super) plan: Plan,
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
}

/// The destination has an empty process with all mappings, and page streams are open.
#[must_use]
pub struct Precopied<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    pub(super) pages: Pages,
}

/// The source's side of the memory copy.
pub struct Pages {
    /// Where pages are read.
    pub source: Arc<PageSource>,
    /// Which of them hold something.
    pub pagemap: PageMap,
    /// The round that is next, from 1.
    pub next_round: u32,
    /// How many layout updates have been sent.
    pub layout_version: u32,
    /// The layout that the destination has been told.
    pub told: Layout,
    /// How many shared objects it has been told of.
    pub told_objects: usize,
    /// Finds what has changed.
    pub tracker: Box<dyn DirtyTracker>,
    /// Pages that the destination has from an earlier round, perhaps not as they are now.
    pub sent: PageSet,
    /// Pages that are known to have changed and have not been sent since.
    pub pending: PageSet,
    /// Guard pages. A write-protected one does not come up again before it changes.
    pub guards: PageSet,
    /// Pages that held nothing at the last look, if the destination has not been told since.
    pub empty: PageSet,
}

impl Pages {
    /// Opens the objects that the subject's address space names and that are not open yet.
    pub fn open_objects(&self, subject: &Subject) -> Result<()> {
        let mut open = self.source.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for object in subject.space.objects.iter().skip(open.len()) {
            let (start, end) = subject.space.mapping_of(object.id).ok_or_else(|| {
                Error::Invalid("shared memory was unmapped while it was being copied; try again".into())
            })?;
            let file: File = map_files::open_mapped(subject.pid, start, end, false)
                .doing(|| format!("open the shared memory at {start:x}"))?;
            open.push(Arc::new(file));
        }
        Ok(())
    }
}

impl Pages {
    /// How the address space differs from what the destination has been told: from now on it counts as told. `empty`: pages that hold
    /// nothing now; those of them that were sent earlier must be given back there too.
    pub fn update(&mut self, subject: &Subject, empty: &PageSet) -> Result<LayoutUpdate> {
        let layout = &subject.space.layout;
        // Nearly always nothing has changed, and comparing is ten times quicker than finding out how.
        let same = self.told == *layout;
        let change = if same { LayoutChange::none(layout) } else { self.told.change_to(layout) };
        let objects = subject.space.objects.get(self.told_objects..).unwrap_or_default().to_vec();
        if !same {
            self.told.clone_from(layout);
        }
        self.told_objects = subject.space.objects.len();
        let unmapped = PageSet::from_ascending(change.unmap.iter().map(|&(start, end)| start..end));
        self.sent = self.sent.without(&unmapped);
        self.guards = self.guards.without(&unmapped);
        let kept = self.sent.without(empty);
        let dropped = self.sent.without(&kept);
        self.sent = kept;
        let drops = dropped.ranges().iter().map(|r| (r.start, r.end)).collect();
        Ok(LayoutUpdate { change, objects, drops, guards: Vec::new() })
    }

    /// Keeps track of guard pages.
    pub fn note_guards(&mut self, look: &Look) {
        self.guards = self.guards.union(&look.guards).without(&look.changed).without(&look.empty);
    }

    /// Cuts pages into chunks, and counts them as sent.
    pub fn chunks(&mut self, layout: &Layout, pages: &PageSet) -> Vec<Chunk> {
        let mut chunks = Chunks::default();
        let mut ranges = pages.ranges().iter().peekable();
        for vma in layout.vmas.iter().filter(|v| select::has_own_pages(v)) {
            while ranges.peek().is_some_and(|r| r.end <= vma.start) {
                ranges.next();
            }
            let mut ahead = ranges.clone();
            while let Some(range) = ahead.next_if(|r| r.start < vma.end) {
                let (start, end) = (range.start.max(vma.start), range.end.min(vma.end));
                // A page that the destination has already cannot be left out because it is zero now.
                let zeros_matter = select::zeros_matter(vma) || !self.sent.is_empty();
                chunks.add(0, zeros_matter, start, end);
            }
        }
        self.sent = self.sent.union(pages);
        chunks.finish()
    }

    /// Where a shared object holds anything.
    pub fn data_of(&self, object: u32) -> Result<Vec<std::ops::Range<u64>>> {
        let open = self.source.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let file = open.get(object as usize - 1).cloned();
        drop(open);
        let file = file.ok_or_else(|| Error::Invalid(format!("shared object {object} is not open")))?;
        select::data_ranges(&file).doing(|| "find the data of shared memory".into())
    }
}

impl<'r, 'o> Ready<'r, 'o> {
    /// Has the destination make the process, and copies memory to it while it runs here.
    ///
    /// Err: the destination has discarded it.
    pub fn pre_copy(self) -> Result<Precopied<'r, 'o>> {
        let Ready { plan, record, mut undo, mut subject } = self;
        undo.held.fault(1)?;
        record.enter(Phase::PreCopy { round: 1 });
        undo.push("tell the destination to discard", |held| match held.peer.as_mut() {
            // The peer may have failed itself; a lost connection is a Discard too.
            Some(peer) => peer.send(&ToDestination::Discard).or(Ok(())),
            None => Ok(()),
        });
        let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
        let streams = plan.options.streams.clamp(1, 16);
        let skeleton = Skeleton {
            layout: subject.space.layout.clone(),
            objects: subject.space.objects.clone(),
            streams,
            highest_descriptor: subject.files.highest(),
        };
        peer.send(&ToDestination::Build(skeleton))?;
        let source = Arc::new(PageSource {
            memory: ProcessMemory::open(subject.pid).doing(|| format!("open the memory of {}", subject.pid))?,
            objects: Mutex::default(),
        });
        let pagemap = PageMap::open(subject.pid).doing(|| format!("open the pagemap of {}", subject.pid))?;
        let mut pages = Pages {
            source: source.clone(),
            pagemap,
            next_round: 1,
            layout_version: 0,
            told: subject.space.layout.clone(),
            told_objects: subject.space.objects.len(),
            tracker: Box::new(Untracked),
            sent: PageSet::default(),
            pending: PageSet::default(),
            empty: PageSet::default(),
            guards: PageSet::default(),
        };
        match peer.receive()? {
            ToSource::Built => {}
            other => return Err(peer.unexpected(&other)),
        }
        fault::point(2, peer.stream())?;
        peer.send(&ToDestination::Files(subject.files.early()?))?;
        match peer.receive()? {
            ToSource::Opened => {}
            other => return Err(peer.unexpected(&other)),
        }
        let connections = (0..streams).map(|_| peer.open_page_stream()).collect::<Result<Vec<_>>>()?;
        undo.held.streams = Some(PageStreams::start(connections, source)?);
        pages.open_objects(&subject)?;
        undo.held.fault(3)?;
        let mut rounds = Rounds { record, undo: &mut undo, subject: &mut subject, pages: &mut pages };
        rounds.run(&plan)?;
        undo.held.fault(12)?;
        Ok(Precopied { record, undo, subject, pages })
    }
}

/// The rounds of pre-copy.
struct Rounds<'a, 'o> {
    record: &'a mut Record<'o>,
    undo: &'a mut UndoList,
    subject: &'a mut Subject,
    pages: &'a mut Pages,
}

impl Rounds<'_, '_> {
    fn run(&mut self, plan: &Plan) -> Result<()> {
        let options = &plan.options;
        let limits = Limits {
            max_downtime: options.max_downtime,
            max_rounds: options.max_rounds,
            otherwise: options.when_not_converging,
        };
        if limits.max_rounds > 0 {
            self.pages.tracker = tracker(options.tracker, self.subject, &self.pages.source)?;
        }
        self.record.tracker = self.pages.tracker.name();
        if self.pages.tracker.name() == "none" {
            return Ok(());
        }
        let mut past = Vec::new();
        let mut look = self.look()?;
        loop {
            match decide(&past, look.changed.bytes(), &limits) {
                Decision::Again => {}
                Decision::Freeze => break,
                Decision::FreezeAnyway(expected) => {
                    let ms = expected.as_millis();
                    self.record.warn(format!(
                        "it changes its memory faster than it can be sent: expecting it to stand still for {ms} ms"
                    ));
                    break;
                }
                Decision::GiveUp(expected) => {
                    let why = format!(
                        "it changes its memory faster than it can be sent: it would stand still for {} ms; allow that with --max-downtime, or use --when-not-converging stop",
                        expected.as_millis()
                    );
                    return Err(Error::Refused(vec![why]));
                }
            }
            let began = Instant::now();
            let bytes = self.copy(&look)?;
            past.push(Past { bytes, took: began.elapsed() });
            self.subject.refresh_space()?;
            look = self.look()?;
        }
        // What this last look found was armed with it, and is sent in the freeze.
        self.pages.pending = look.changed;
        self.pages.empty = look.empty;
        Ok(())
    }

    fn look(&mut self) -> Result<Look> {
        let look = self.pages.tracker.look(&self.subject.space.layout, &self.pages.pagemap, true)?;
        self.pages.note_guards(&look);
        Ok(look)
    }

    /// Sends one round, and waits until it is in place.
    fn copy(&mut self, look: &Look) -> Result<u64> {
        let number = self.pages.next_round;
        self.record.enter(Phase::PreCopy { round: number });
        let update = self.pages.update(self.subject, &look.empty)?;
        if update.is_needed() {
            let peer = self.undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
            self.pages.layout_version += 1;
            peer.send(&ToDestination::Update(update))?;
            match peer.receive()? {
                ToSource::Updated => {}
                other => return Err(peer.unexpected(&other)),
            }
        }
        self.pages.open_objects(self.subject)?;
        let streams = self.undo.held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
        let counted = streams.counters.snapshot();
        let began = Instant::now();
        let chunks = self.pages.chunks(&self.subject.space.layout, &look.changed);
        streams.begin_round(number, self.pages.layout_version, true, chunks)?;
        let expected = counted.bytes + look.changed.bytes();
        let record = &mut *self.record;
        streams.finish_round(|sent| record.progress(sent, expected))?;
        self.pages.next_round += 1;
        record.round(&counted, &streams.counters.snapshot(), began.elapsed());
        Ok(look.changed.bytes())
    }
}

/// The tracker that the operator chose, or the best that this kernel has.
fn tracker(choice: TrackerChoice, subject: &mut Subject, source: &PageSource) -> Result<Box<dyn DirtyTracker>> {
    let supported = PageMap::open(subject.pid).is_ok_and(|p| p.supports_scan());
    match choice {
        TrackerChoice::None => Ok(Box::new(Untracked)),
        TrackerChoice::SoftDirty => Err(unavailable("soft-dirty", "it is not built yet")),
        TrackerChoice::PagemapScan if !supported => {
            Err(unavailable("pagemap-scan", "this kernel has no PAGEMAP_SCAN (Linux 6.7)"))
        }
        TrackerChoice::Auto if !supported => Ok(Box::new(Untracked)),
        TrackerChoice::PagemapScan | TrackerChoice::Auto => {
            let userfaultfd = super::freeze::borrow_userfaultfd(subject, source)?;
            Ok(Box::new(PagemapScan::new(userfaultfd.into())?))
        }
    }
}

impl<'r, 'o> Precopied<'r, 'o> {
    /// Stops every thread. The downtime begins.
    pub fn freeze(self) -> Result<Frozen<'r, 'o>> {
        freeze(self)
    }
}

/// The threads of a process that are known.
pub type Tids = BTreeSet<i32>;
