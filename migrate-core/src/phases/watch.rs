//! How a process changes its memory, found as a move finds it, without moving it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use migrate_linux::pagemap::PageMap;
use migrate_linux::process_memory::ProcessMemory;

use super::check::standing;
use super::freeze::borrow_userfaultfd;
use super::preflight::examine;
use super::standstill::while_it_stands;
use super::subject::Subject;
use crate::error::{Doing, Error, Result};
use crate::image::layout::PAGE;
use crate::memory::layout::Pace;
use crate::memory::page_set::PageSet;
use crate::memory::pagemap_scan::PagemapScan;
use crate::memory::send::PageSource;
use crate::memory::soft_dirty::SoftDirty;
use crate::memory::tracker::{DirtyTracker, Look};
use crate::plan::Options;
use crate::profile::memory::{Interval, Series};

/// So many intervals a profile has, if they are no shorter and no longer than these.
const INTERVALS: u32 = 20;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);

/// An interval is also looked at when it has just begun: the last rounds of a move are as short.
const EARLY: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// What the first write to an armed page costs the process.
const A_WRITE: Duration = Duration::from_nanos(800);

/// Looking may take this part of the time, both of ours and of the process's: one in so many.
const MOST: u32 = 20;

/// So many stretches of pages are kept of all intervals together (16 bytes each); of the rest, only how much they are.
const KEPT: usize = 1 << 20;

/// A process whose memory is watched. Dropped, the kernel forgets what it was told to note.
pub struct MemoryWatch {
    subject: Subject,
    pagemap: PageMap,
    tracker: Box<dyn DirtyTracker>,
    kept: usize,
    working_set: PageSet,
    series: Series,
}

impl MemoryWatch {
    /// Begins. The process stands still for a moment: once, or with soft-dirty bits in every look.
    ///
    /// Err: [`Error::Refused`] when it is none that could be looked at; else its memory cannot be followed.
    pub fn begin(pid: i32, options: &Options) -> Result<MemoryWatch> {
        let (mut subject, _) = examine(pid, options)?;
        let doing = |what: &'static str| move || format!("open the {what} of {pid}");
        let process = subject.process;
        let pagemap = PageMap::open(process.alive).doing(doing("pagemap"))?;
        let memory = ProcessMemory::open(process.alive).doing(doing("memory"))?;
        let source = PageSource { memory, objects: Mutex::default() };
        let zero = if pagemap.supports_scan() { None } else { Some(SoftDirty::probe().map_err(not_refused)?) };
        let began = Instant::now();
        let userfaultfd = borrow_userfaultfd(&mut subject, &source).map_err(not_refused)?;
        let mut stood = began.elapsed();
        let tracker: Box<dyn DirtyTracker> = match zero {
            None => Box::new(PagemapScan::new(userfaultfd.into())?),
            Some(zero) => {
                let (tracker, longer) = while_it_stands(&mut subject, |subject| {
                    subject.space.read_quickly(process, Pace::Running)?;
                    SoftDirty::begin(process.alive, zero, userfaultfd.into(), &subject.space.layout)
                })?;
                stood += longer;
                Box::new(tracker)
            }
        };
        let series = Series { tracker: tracker.name(), stood, standing: standing(&subject), ..Series::default() };
        let mut watch = MemoryWatch { subject, pagemap, tracker, kept: 0, working_set: PageSet::default(), series };
        watch.series.total = watch.look()?.changed.bytes();
        Ok(watch)
    }

    /// What has changed since the last look.
    fn look(&mut self) -> Result<Look> {
        let MemoryWatch { subject, pagemap, tracker, .. } = self;
        let stops = tracker.stops_to_rearm();
        let mut look = |subject: &mut Subject| {
            // What of it cannot move is no matter here.
            subject.space.read_quickly(subject.process, Pace::Running)?;
            tracker.look(&subject.space.layout, pagemap, true)
        };
        if !stops {
            return look(subject);
        }
        let (look, stood) = while_it_stands(subject, look)?;
        self.series.stood += stood;
        Ok(look)
    }

    /// Watches for so long. `wait` lets time pass; it says false when there is no more of it. Err: it can be watched no longer; what was
    /// seen until then stays.
    pub fn run(&mut self, began: Instant, duration: Duration, mut wait: impl FnMut(Instant) -> bool) -> Result<()> {
        let mut length = (duration / INTERVALS).clamp(SHORTEST, LONGEST);
        let early: &[Duration] = if self.tracker.stops_to_rearm() { &[] } else { &EARLY };
        // What has changed since it was armed belongs to no interval.
        self.look()?;
        let mut goes_on = true;
        while goes_on {
            let begin = Instant::now();
            let mut interval = Interval { at: begin - began, ..Interval::default() };
            let (mut pages, mut cost) = (PageSet::default(), Duration::ZERO);
            for after in early.iter().copied().filter(|after| *after < length / 2).chain([length]) {
                goes_on = wait(begin + after);
                if !goes_on && begin.elapsed() < length / 2 {
                    return Ok(()); // too short to tell anything
                }
                let looking = Instant::now();
                let look = self.look()?;
                cost += looking.elapsed() + A_WRITE * u32::try_from(look.changed.bytes() / PAGE).unwrap_or(u32::MAX);
                pages = pages.union(&look.changed);
                interval.early.push((looking - begin, pages.bytes()));
                if !goes_on {
                    break;
                }
            }
            if let Some((took, bytes)) = interval.early.pop() {
                (interval.took, interval.bytes) = (took, bytes);
            }
            self.working_set = self.working_set.union(&pages);
            self.series.working_set = self.working_set.bytes();
            self.kept += pages.ranges().len();
            interval.pages = (self.kept <= KEPT).then_some(pages);
            self.series.intervals.push(interval);
            length = length.max(cost * MOST).min(duration.max(SHORTEST));
        }
        Ok(())
    }

    /// What was seen.
    pub fn finish(self) -> Series {
        self.series
    }
}

/// That its memory cannot be followed is no reason not to look at all else.
fn not_refused(error: Error) -> Error {
    match error {
        Error::Refused(why) => Error::Invalid(why.join("; ")),
        other => other,
    }
}
