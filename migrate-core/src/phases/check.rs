//! Whether a process could move: preflight alone, with all that was found. Nothing is touched, neither here nor there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::sysv_ipc::Kind;
use serde::Serialize;

use super::kernel_state::{Loading, Wanted};
use super::preflight::{examine, propose};
use super::subject::Subject;
use super::{told_files, waits};
use crate::error::Result;
use crate::image::layout::PAGE;
use crate::memory::layout;
use crate::plan::{Options, Plan};
use crate::proc::link::LinkTarget;
use crate::proc::stat::read_cpu_time;
use crate::proc::timers::read_timers;
use crate::resources::{file, process, thread};

/// How long it is watched to see whether it computes.
const WATCHED: Duration = Duration::from_millis(100);

/// What a move takes at least, and what each thread, descriptor and mapping adds: figures of `scripts/bench`, nanoseconds.
const LEAST: u64 = 3_500_000;
const A_THREAD: u64 = 45_000;
const A_DESCRIPTOR: u64 = 5_000;
const A_MAPPING: u64 = 1_000;

/// Something that a process has, and that moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// Its kind, as in the README's table.
    pub kind: &'static str,
    /// Which it is, and how much.
    pub what: String,
}

/// What a move would take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expected {
    /// Bytes of memory to be sent in the first round; zero pages among them are not.
    pub bytes: u64,
    /// Rounds of copying at least.
    pub rounds: u32,
    /// How long it stands still when it changes little meanwhile, microseconds.
    pub downtime_us: u64,
    /// Processors that it keeps busy. What it changes while it is copied goes again, and adds to the downtime.
    pub computing: f64,
    /// How the kernel is asked for the state of its threads: `kmod`, `ebpf` or `ptrace`.
    pub kernel_state: &'static str,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// The destination that was asked, too.
    pub host: Option<String>,
    /// What moves.
    pub moves: Vec<Resource>,
    /// What is lost.
    pub losses: Vec<String>,
    /// Why it cannot move, each reason with what to do.
    pub refused: Vec<String>,
    /// None: it cannot move.
    pub expected: Option<Expected>,
}

impl Check {
    /// In one word: `moves`, `moves-with-loss` or `refused`.
    pub fn verdict(&self) -> &'static str {
        match (self.refused.is_empty(), self.losses.is_empty()) {
            (true, true) => "moves",
            (true, false) => "moves-with-loss",
            (false, _) => "refused",
        }
    }
}

/// Looks at a process, and asks a destination whether it would take it.
///
/// Err: it could not be looked at.
pub fn check(pid: i32, host: Option<&str>, options: &Options) -> Result<Check> {
    let (mut subject, mut refused) = examine(pid, options)?;
    let mut losses = subject.losses.clone();
    if let Some(host) = host.filter(|_| refused.is_empty()) {
        let plan = Plan { pid, host: host.into(), options: options.clone() };
        // The destination forgets the offer when the connection is closed.
        match propose(&plan, &mut subject) {
            Ok(agreed) => losses.extend(agreed.warnings),
            Err(why) => refused.push(why.to_string()),
        }
    }
    if refused.is_empty() && subject.files.has_terminals() {
        let probe = told_files::begin_terminals(options.kernel_state, subject.process, true).finish();
        losses.extend(subject.files.tell_terminals_by(probe));
    }
    let expected = if refused.is_empty() { Some(expected(&mut subject, options)) } else { None };
    Ok(Check {
        pid,
        name: subject.name(),
        host: host.map(Into::into),
        moves: resources(&subject),
        losses,
        refused,
        expected,
    })
}

fn expected(subject: &mut Subject, options: &Options) -> Expected {
    let status = &subject.status;
    let resident = (status.vm_rss.unwrap_or(0) + status.vm_swap.unwrap_or(0)) * 1024;
    Expected {
        bytes: resident.saturating_sub(subject.space.file_pages * PAGE),
        rounds: options.max_rounds.min(2),
        downtime_us: standing(subject).as_micros() as u64,
        computing: computing(subject.process.pid),
        kernel_state: kernel_state(subject, options),
    }
}

/// How long it stands still in a move in which no memory is left to be sent.
pub(super) fn standing(subject: &Subject) -> Duration {
    let descriptors: u64 = subject.files.list.iter().map(|f| f.numbers.len() as u64).sum();
    let mappings = subject.space.layout.vmas.len() as u64;
    let threads = subject.status.threads;
    Duration::from_nanos(LEAST + threads * A_THREAD + descriptors * A_DESCRIPTOR + mappings * A_MAPPING)
}

/// Looks whether the module is loaded, and whether the kernel takes the probe.
fn kernel_state(subject: &mut Subject, options: &Options) -> &'static str {
    let (waits, anew) = match ProcessMemory::open(subject.process.alive) {
        Ok(memory) => waits::look(subject, &memory),
        Err(_) => (false, false),
    };
    let wanted = Wanted { threads: subject.status.threads, waits, anew, cpu_time: subject.sets_cpu_time };
    let source = Loading::begin(options.kernel_state, subject.process.pid, wanted).and_then(Loading::finish);
    source.ok().flatten().map_or("ptrace", |source| source.name())
}

/// How many processors it keeps busy, to a hundredth. One that has ended keeps none.
fn computing(pid: i32) -> f64 {
    let began = (Instant::now(), read_cpu_time(pid));
    std::thread::sleep(WATCHED);
    let (Ok(before), Ok(after)) = (began.1, read_cpu_time(pid)) else { return 0.0 };
    let busy = after.saturating_sub(before).as_secs_f64() / began.0.elapsed().as_secs_f64();
    (busy * 100.0).round() / 100.0
}

fn resources(subject: &Subject) -> Vec<Resource> {
    let mut all = Vec::new();
    let mut add = |kind: &'static str, what: String| all.push(Resource { kind, what });
    let status = &subject.status;
    add("identity", format!("process {}, {} threads", subject.pid_inside(), status.threads));
    if subject.process.first_has_ended() {
        add(thread::ENDED_FIRST.0, format!("thread {}", subject.pid_inside()));
    }
    add("credentials", format!("user {}, group {}", status.uid[1], status.gid[1]));
    let mut memory: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    for vma in &subject.space.layout.vmas {
        let (mappings, bytes) = memory.entry(layout::kind_of(vma)).or_default();
        *mappings += 1;
        *bytes += vma.len();
    }
    for (kind, (mappings, bytes)) in memory {
        add(kind, format!("{mappings} mappings, {} KiB", bytes / 1024));
    }
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    add(
        process::surroundings::ROW.0,
        format!("working directory {}, root {}", shown(&subject.working_directory), shown(&subject.root)),
    );
    let timers = read_timers(subject.process.pid).map_or(0, |timers| timers.len());
    if timers > 0 {
        add(process::posix_timers::ROW.0, timers.to_string());
    }
    for (kind, which) in subject.sysv.described() {
        let row = if kind == Kind::Semaphores { process::semaphores::ROW } else { process::message_queues::ROW };
        add(row.0, which);
    }
    for shared in subject.files.list.iter().filter(|shared| shared.moves()) {
        let view = &shared.file.view;
        let numbers: Vec<String> = shared.numbers.iter().map(ToString::to_string).collect();
        let target = match &view.link {
            LinkTarget::Path { path, .. } => format!(" {}", path.display()),
            _ => String::new(),
        };
        add(file::kind_of(view), format!("fd {}{target}", numbers.join(", ")));
        let locks = process::file_locks::parse(view.number, &view.info).map_or(0, |locks| locks.len());
        if locks > 0 {
            add(process::file_locks::ROW.0, format!("fd {}: {locks}", view.number));
        }
    }
    all
}
