//! Pre-copy: the destination makes the process and receives its pages while it still runs here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use migrate_linux::awake::Awake;
use migrate_linux::page_entries::Entry;
use migrate_linux::pagemap::PageMap;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::throttle::Throttle;

use super::freeze::{Frozen, freeze};
use super::kernel_state::{Loading, MANY, Wanted};
use super::pages::Pages;
use super::peer::Peer;
use super::record::Record;
use super::standstill::while_it_stands;
use super::subject::{Subject, refuse};
use super::told_files;
use super::undo::UndoList;
use super::waits;
use crate::clocks::Offsets;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::image::layout::LayoutChange;
use crate::image::{Early, LayoutUpdate, Skeleton};
use crate::memory::decide::{Decision, Limits, Past, decide};
use crate::memory::huge_pages;
use crate::memory::objects::SharedObjects;
use crate::memory::page_set::PageSet;
use crate::memory::pagemap_scan::PagemapScan;
use crate::memory::send::{PageSource, PageStreams};
use crate::memory::soft_dirty::SoftDirty;
use crate::memory::tracker::{DirtyTracker, Look, Untracked, unavailable};
use crate::phase::Phase;
use crate::plan::{Plan, STREAMS, TrackerChoice, WhenNotConverging};
use crate::protocol::message::{ToDestination, ToSource};

/// Stops before the freeze are named in the report if they took longer than this.
const WORTH_TELLING: Duration = Duration::from_millis(2);

/// Both sides have agreed. Nothing has been changed.
#[must_use]
pub struct Ready<'r, 'o> {
    pub(super) plan: Plan,
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    /// The offsets that its clocks need there.
    pub(super) clocks: Option<Offsets>,
}

/// The destination has an empty process with all mappings, and page streams are open.
#[must_use]
pub struct Precopied<'r, 'o> {
    pub(super) record: &'r mut Record<'o>,
    pub(super) undo: UndoList,
    pub(super) subject: Subject,
    pub(super) pages: Pages,
}

impl<'r, 'o> Ready<'r, 'o> {
    /// Has the destination make the process, and copies memory to it while it runs here.
    ///
    /// Err: the destination has discarded it.
    pub fn pre_copy(self) -> Result<Precopied<'r, 'o>> {
        let Ready { plan, record, mut undo, mut subject, clocks } = self;
        undo.held.fault(1)?;
        record.cancel.check()?;
        record.enter(Phase::PreCopy { round: 1 });
        undo.push("tell the destination to discard", |held| match held.peer.as_mut() {
            // The peer may have failed itself; a lost connection is a Discard too.
            Some(peer) => peer.send(&ToDestination::Discard).or(Ok(())),
            None => Ok(()),
        });
        let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
        let streams = plan.options.streams.clamp(*STREAMS.start(), *STREAMS.end());
        let pagemap =
            PageMap::open(subject.process.alive).doing(|| format!("open the pagemap of {}", subject.process))?;
        let skeleton = Skeleton {
            layout: subject.space.layout.clone(),
            objects: subject.space.unnamed.objects.clone(),
            streams,
            highest_descriptor: subject.files.highest(),
            clocks,
            measure: plan.options.measure,
            huge: huge_pages::ranges(&pagemap, &subject.space.huge),
        };
        peer.send(&ToDestination::Build(skeleton))?;
        // While the destination does so too.
        if plan.options.measure {
            record.measure.begin(subject.process.pid);
        }
        let source = Arc::new(PageSource {
            memory: ProcessMemory::open(subject.process.alive)
                .doing(|| format!("open the memory of {}", subject.process))?,
            objects: Mutex::default(),
        });
        let (waits, anew) = waits::look(&mut subject, &source.memory);
        let wanted = Wanted { threads: subject.status.threads, waits, anew, cpu_time: subject.sets_cpu_time };
        subject.probe = Loading::begin(plan.options.kernel_state, subject.process.pid, wanted)?;
        let files = told_files::begin_files(plan.options.kernel_state, subject.process, subject.files.count());
        subject.sysv.load_probe(plan.options.kernel_state, subject.process.pid);
        let any = subject.files.has_terminals();
        let terminals = told_files::begin_terminals(plan.options.kernel_state, subject.process, any);
        let notified =
            told_files::begin_notified(plan.options.kernel_state, subject.process, subject.files.may_notify());
        let mut pages = Pages {
            source: source.clone(),
            pagemap,
            next_round: 1,
            layout_version: 0,
            told: subject.space.layout.clone(),
            told_objects: subject.space.unnamed.objects.len(),
            tracker: Box::new(Untracked),
            sent: PageSet::default(),
            pending: PageSet::default(),
            empty: PageSet::default(),
            guards: PageSet::default(),
            shared: SharedObjects::default(),
            verify: plan.options.verify,
        };
        match peer.receive()? {
            ToSource::Built => {}
            other => return Err(peer.unexpected(&other)),
        }
        fault::point(2, peer.stream())?;
        let early = subject.files.early()?;
        let (threads, sysv) = (subject.early_threads()?, subject.sysv.announced()?);
        announce(peer, &ToDestination::Early(Early { files: early, threads, sysv }))?;
        let connections = (0..streams).map(|_| peer.open_page_stream()).collect::<Result<Vec<_>>>()?;
        undo.held.streams = Some(PageStreams::start(connections, source, &plan.options)?);
        pages.share_objects(&subject);
        undo.held.fault(3)?;
        if anew {
            // The first stop makes a wait begin anew, and only the probe knows when it would have ended.
            subject.probe.wait();
        }
        let (undo_list, standing) = (&mut undo, Standing::default());
        let mut rounds = Rounds { record, undo: undo_list, subject: &mut subject, pages: &mut pages, standing };
        rounds.run(&plan)?;
        if !plan.options.verify {
            send_ahead(&mut undo, &mut subject)?;
        }
        if let Some(probe) = files.finish() {
            subject.files.tell_by(probe);
        }
        refuse(subject.sysv.finish_loading())?;
        let losses = subject.files.tell_terminals_by(terminals.finish());
        losses.into_iter().for_each(|loss| record.warn(loss));
        subject.files.tell_notified_by(notified.finish());
        undo.held.fault(12)?;
        subject.is_reached()?;
        undo.held.awake = Some(Awake::begin());
        let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
        announce(peer, &ToDestination::Soon)?;
        Ok(Precopied { record, undo, subject, pages })
    }
}

/// What its threads have beside memory, credentials and registers: in the freeze there are then only differences. Not if the memory of
/// both sides is compared, because the kernel writes to a thread's rseq area.
fn send_ahead(undo: &mut UndoList, subject: &mut Subject) -> Result<()> {
    subject.probe.wait();
    let Some(threads) = subject.threads_ahead().filter(|threads| threads.len() as u64 >= MANY) else { return Ok(()) };
    let peer = undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
    announce(peer, &ToDestination::Ahead(threads))
}

/// Tells the destination, and waits until it has done what it does then.
fn announce(peer: &mut Peer, message: &ToDestination) -> Result<()> {
    peer.send(message)?;
    match peer.receive()? {
        ToSource::Made => Ok(()),
        other => Err(peer.unexpected(&other)),
    }
}

impl Standing {
    fn count<T>(&mut self, (done, stood): (T, Duration), why: &'static str) -> T {
        self.stops += 1;
        self.stood += stood;
        self.why.insert(why);
        done
    }

    /// Short ones pass unnoticed: threads wait as long for a processor.
    fn tell(&self, record: &mut Record<'_>) {
        if self.stood < WORTH_TELLING {
            return;
        }
        let (stops, ms) = (self.stops, self.stood.as_secs_f64() * 1e3);
        let times = if stops == 1 { "once".into() } else { format!("{stops} times") };
        let why: Vec<&str> = self.why.iter().copied().collect();
        record.warn(format!("it stood still {times} before, for {ms:.1} ms in all: to track {}", why.join(", ")));
    }
}

/// The rounds of pre-copy.
struct Rounds<'a, 'o> {
    record: &'a mut Record<'o>,
    undo: &'a mut UndoList,
    subject: &'a mut Subject,
    pages: &'a mut Pages,
    standing: Standing,
}

/// What finding changed memory has cost the process where it must stand still for that.
#[derive(Default)]
struct Standing {
    /// Whether the last look has rearmed the tracker.
    armed: bool,
    stops: u32,
    stood: Duration,
    /// What needs it.
    why: BTreeSet<&'static str>,
}

impl Rounds<'_, '_> {
    fn run(&mut self, plan: &Plan) -> Result<()> {
        let options = &plan.options;
        let mut limits = Limits {
            max_downtime: options.max_downtime,
            max_rounds: options.max_rounds,
            otherwise: options.when_not_converging,
            link_rate: None,
        };
        if limits.max_rounds > 0 {
            self.pages.tracker = self.tracker(options.tracker)?;
        }
        self.record.tracker = self.pages.tracker.name();
        if self.pages.tracker.name() == "none" {
            return Ok(());
        }
        let mut past = Vec::new();
        let mut throttle = 0;
        // In what it has open and shares: what is there at two looks will not go away, and what is there at the last one would be found in the freeze.
        let mut obstacles = Vec::new();
        let mut look = self.look()?;
        loop {
            self.record.cancel.check()?;
            if let Some(streams) = &self.undo.held.streams {
                limits.link_rate = streams.link_rate();
            }
            match decide(&past, look.changed.bytes() + self.pages.shared.bytes(), &limits) {
                Decision::Again => {}
                Decision::Freeze => break,
                Decision::Throttle(percent) => match self.slow_down(percent) {
                    Ok(()) => throttle = percent,
                    Err(error) => {
                        self.record.warn(format!("it cannot be slowed down: {error}"));
                        limits.otherwise = WhenNotConverging::Stop;
                        continue;
                    }
                },
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
            look = self.rearmed(look)?;
            self.let_direct_reads_end()?;
            let began = Instant::now();
            let bytes = self.copy(&look)?;
            past.push(Past { bytes, took: began.elapsed(), throttle });
            // Not behind a short round, which it would make longer by much: little can have happened during that one.
            match past.first().is_some_and(|first| bytes >= first.bytes / 10) {
                true => self.subject.refresh_space_with_flags()?,
                false => self.subject.refresh_space()?,
            }
            let found = self.subject.refresh_holdings()?;
            found.losses.into_iter().for_each(|loss| self.record.warn(loss));
            self.subject.sysv.load_probe(plan.options.kernel_state, self.subject.process.pid);
            if found.obstacles == obstacles {
                refuse(found.obstacles)?;
            } else {
                obstacles = found.obstacles;
            }
            look = self.look()?;
        }
        refuse(obstacles)?;
        self.settle_objects()?;
        // What this last look found was armed with it, and is sent in the freeze.
        self.pages.pending = look.changed;
        self.pages.empty = look.empty;
        self.standing.tell(self.record);
        Ok(())
    }

    fn slow_down(&mut self, percent: u8) -> Result<()> {
        if self.pages.tracker.stops_to_rearm() {
            // Its threads can have one tracer only.
            return Err(Error::Invalid(format!("{} has to stop it itself", self.record.tracker)));
        }
        if self.subject.reads_directly()? {
            return Err(Error::Invalid("it reads files past the page cache (O_DIRECT)".into()));
        }
        match &self.undo.held.throttle {
            Some(throttle) => throttle.set(percent),
            None => {
                self.undo.push("let it run at full speed", |held| {
                    held.throttle.take();
                    Ok(())
                });
                self.undo.held.throttle = Some(Throttle::start(self.subject.process.pid, percent)?);
            }
        }
        self.record.slows_down(percent);
        Ok(())
    }

    /// A read past the page cache writes to pages that were looked up when it began: armed in between, they do not show it. So one that
    /// has begun before the last look is over before anything is copied; one that has begun since shows. A thread inside of one does
    /// not stop before it is over.
    fn let_direct_reads_end(&mut self) -> Result<()> {
        if self.pages.tracker.stops_to_rearm() || !self.subject.reads_directly()? {
            return Ok(());
        }
        if let Some(throttle) = self.undo.held.throttle.take() {
            self.record.full_speed(throttle.end());
        }
        let stood = while_it_stands(self.subject, |_| Ok(()));
        self.standing.count(stood?, "reads past the page cache");
        Ok(())
    }

    /// Looks while it runs, and rearms if that can be done then.
    fn look(&mut self) -> Result<Look> {
        // While it is slowed down it cannot be stopped besides.
        if self.undo.held.throttle.is_none() && self.pages.shared.are_unsettled(&self.subject.space) {
            let shared = &mut self.pages.shared;
            let settled = while_it_stands(self.subject, |subject| shared.settle(&subject.space, subject.process));
            self.standing.count(settled?, "shared memory");
            if shared.may_be_shared() && self.subject.shares_nothing()? {
                shared.are_its_own();
            }
        }
        self.standing.armed = !self.pages.tracker.stops_to_rearm();
        self.pages.look(self.subject, self.standing.armed)
    }

    /// The last look if it has rearmed, else another one, for which the process stands. Not before there is to be another round: most
    /// often there is none.
    fn rearmed(&mut self, look: Look) -> Result<Look> {
        if std::mem::replace(&mut self.standing.armed, true) {
            return Ok(look);
        }
        let pages = &mut *self.pages;
        let looked = while_it_stands(self.subject, |subject| {
            subject.refresh_space()?;
            pages.look(subject, true)
        });
        Ok(self.standing.count(looked?, "all of its memory (soft-dirty)"))
    }

    /// The tracker that the operator chose, or the best that this kernel has.
    fn tracker(&mut self, choice: TrackerChoice) -> Result<Box<dyn DirtyTracker>> {
        let supported = self.pages.pagemap.supports_scan();
        match choice {
            TrackerChoice::None => Ok(Box::new(Untracked)),
            TrackerChoice::PagemapScan if !supported => {
                Err(unavailable("pagemap-scan", "this kernel has no PAGEMAP_SCAN (Linux 6.7)"))
            }
            TrackerChoice::SoftDirty => self.soft_dirty(SoftDirty::probe()?),
            TrackerChoice::Auto if !supported => match SoftDirty::probe() {
                Ok(zero) => self.soft_dirty(zero),
                Err(why) => {
                    self.record.warn(format!("all of its memory is copied while it stands still: {why}"));
                    Ok(Box::new(Untracked))
                }
            },
            TrackerChoice::PagemapScan | TrackerChoice::Auto => {
                let userfaultfd = super::freeze::borrow_userfaultfd(self.subject, &self.pages.source)?;
                self.track_shared_memory();
                Ok(Box::new(PagemapScan::new(userfaultfd.into())?))
            }
        }
    }

    /// If it has any now: telling what is done with it costs the program a little. What comes up later is copied in the freeze.
    fn track_shared_memory(&mut self) {
        if !self.subject.space.shares_objects() {
            return;
        }
        let borrowed = super::freeze::borrow_userfaultfd(self.subject, &self.pages.source);
        if let Err(error) = borrowed.and_then(|userfaultfd| self.pages.shared.track(userfaultfd.into())) {
            self.record.warn(format!("its shared memory is copied while it stands still: {error}"));
        }
    }

    fn soft_dirty(&mut self, zero: Entry) -> Result<Box<dyn DirtyTracker>> {
        let userfaultfd = super::freeze::borrow_userfaultfd(self.subject, &self.pages.source)?;
        let begun = while_it_stands(self.subject, |subject| {
            subject.refresh_space()?;
            SoftDirty::begin(subject.process.alive, zero, userfaultfd.into(), &subject.space.layout)
        });
        Ok(Box::new(self.standing.count(begun?, "all of its memory (soft-dirty)")))
    }

    fn tell(&mut self, update: LayoutUpdate) -> Result<()> {
        if update.is_needed() {
            let peer = self.undo.held.peer.as_mut().ok_or_else(|| Error::Invalid("no peer".into()))?;
            self.pages.layout_version += 1;
            peer.send(&ToDestination::Update(update))?;
            match peer.receive()? {
                ToSource::Updated => {}
                other => return Err(peer.unexpected(&other)),
            }
        }
        Ok(())
    }

    /// Tells what the last round has changed about files without a name: their times, mostly. One may have come up since it began.
    fn settle_objects(&mut self) -> Result<()> {
        let change = LayoutChange { files: self.pages.told.files.clone(), ..LayoutChange::default() };
        let (objects, states) = (self.pages.new_objects(self.subject), self.pages.shared.states());
        self.tell(LayoutUpdate { change, objects, states, ..LayoutUpdate::default() })?;
        self.pages.share_objects(self.subject);
        Ok(())
    }

    /// Sends one round, and waits until it is in place.
    fn copy(&mut self, look: &Look) -> Result<u64> {
        let number = self.pages.next_round;
        self.record.enter(Phase::PreCopy { round: number });
        let update = self.pages.update(self.subject, &look.empty)?;
        self.tell(update)?;
        self.pages.share_objects(self.subject);
        let streams = self.undo.held.streams.as_ref().ok_or_else(|| Error::Invalid("no page streams".into()))?;
        let counted = streams.counters.snapshot();
        let began = Instant::now();
        let bytes = look.changed.bytes() + self.pages.shared.bytes();
        let chunks = self.pages.chunks(&self.subject.space, &look.changed);
        streams.begin_round(number, self.pages.layout_version, true, chunks)?;
        let expected = counted.bytes + bytes;
        let record = &mut *self.record;
        streams.finish_round(|sent| {
            record.progress(sent, expected);
            record.cancel.check()
        })?;
        self.pages.next_round += 1;
        record.round(&counted, &streams.counters.snapshot(), began.elapsed());
        Ok(bytes)
    }
}

impl<'r, 'o> Precopied<'r, 'o> {
    /// Stops every thread. The downtime begins.
    pub fn freeze(self) -> Result<Frozen<'r, 'o>> {
        freeze(self)
    }
}
