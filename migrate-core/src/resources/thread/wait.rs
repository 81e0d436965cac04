//! Waits with a time-out that the freeze has cut short: they end when they would have ended.
//!
//! Properties: the end. Where it comes from: what the kernel notes of an interrupted call, which a probe reads; else what the kernel
//! itself puts into the program's memory when it interrupts a call. Where it goes: a thread of the new process makes the same call for
//! the time that is left and is interrupted, so that the kernel notes it; or into the program's memory, where the kernel would look.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use migrate_linux::kernel_module::KernelModule;
use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::regs::{CallState, Registers};
use migrate_linux::remote::{Arg, Batch, Begun, Executor};
use migrate_linux::tracee::Stopped;
use migrate_linux::wait_stub::{self, InStub};
use migrate_linux::waits::{self, Interrupted, Time, Wait as Call, boot_time, nanoseconds, to_bytes};

use super::ThreadState;
use super::wait_end::{Ends, Places, ends_at};
use crate::error::{Doing, Result};
use crate::resources::FrozenThread;

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Wait {
    /// When it ends, on the source's CLOCK_BOOTTIME, nanoseconds.
    pub end: u64,
    /// Where a stub can be put by which it is given what is left ([`wait_stub`]), if it needs one.
    pub stub: Option<u64>,
}

/// A wait of which nobody tells how much is left: there it lasts as long as at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The thread.
    pub tid: i32,
    /// The call.
    pub call: &'static str,
    /// How long it lasts.
    pub whole: Duration,
}

/// One that lasts no longer may begin anew: nobody can tell from other delays.
const SHORT: i64 = 2_000_000;

/// With more descriptors than this, a poll begins anew.
const MOST_DESCRIPTORS: u64 = 1 << 16;
/// `struct pollfd`: descriptor, events, and what came of it.
const POLLFD: usize = 8;

/// Where the search for an end goes on, and what is known without the thread.
pub struct Known<'a> {
    /// Its memory.
    pub memory: &'a ProcessMemory,
    /// When a wait really ends that a stop before the freeze has made begin anew.
    pub ends: &'a Ends,
    /// Where stubs can be put.
    pub places: &'a mut Places<'a>,
}

/// What a thread waits for that is to go on with these registers, made of those of its stop. Ok(None): nothing, or nothing that ends.
/// A thread that stands in a stub goes on as if it had made the call itself.
pub fn capture(
    thread: &FrozenThread,
    stopped: &Registers,
    goes_on: &mut Registers,
    known: &mut Known<'_>,
) -> std::result::Result<Option<Wait>, Renewed> {
    let memory = known.memory;
    let Some(call) = wait_in(stopped, goes_on) else { return capture_before(thread, goes_on, known) };
    let noted = match (call.interrupted, thread.shown.record.as_ref()) {
        (Interrupted::Noted, Some(record)) => {
            call.left_by(stopped, record).map(|left| (left, record.read_at.saturating_add_signed(left)))
        }
        _ => None,
    };
    // The whole of it is longer still, and need not be read.
    if let Some((_, end)) = noted.filter(|(left, _)| *left > SHORT) {
        return Ok(Some(Wait { end, stub: None }));
    }
    let Some(whole) = whole(&call, memory).filter(|whole| *whole > SHORT) else { return Ok(None) };
    let since = || boot_time().saturating_sub(thread.stopped.since().elapsed().as_nanos() as u64);
    let end = match call.interrupted {
        Interrupted::Noted => {
            noted.map(|(_, end)| end).or_else(|| Some(since().saturating_add_signed(time_at(memory, call.rest, 1)?)))
        }
        Interrupted::WrittenBack => Some(since().saturating_add_signed(whole)),
        Interrupted::Anew => return capture_anew(thread, &call, whole, goes_on, known),
    };
    let renewed = Renewed { tid: thread.tid, call: call.name(), whole: waits::duration(whole) };
    end.map(|end| Some(Wait { end, stub: None })).ok_or(renewed)
}

/// Of a wait that a stop has cut short and that begins anew.
fn capture_anew(
    thread: &FrozenThread,
    call: &Call,
    whole: i64,
    goes_on: &mut Registers,
    known: &mut Known<'_>,
) -> std::result::Result<Option<Wait>, Renewed> {
    let renewed = Renewed { tid: thread.tid, call: call.name(), whole: waits::duration(whole) };
    let stub = stub_at(goes_on, known.memory);
    let end = match &stub {
        Some(stub) => stub.end,
        None => {
            let record = thread.shown.record.as_ref().filter(|record| record.watched != 0).ok_or(renewed)?;
            let Some(end) = ends_at(record, whole) else { return Ok(None) };
            known.ends.really(thread.stopped.tid(), end, record.cuts)
        }
    };
    by_stub(end, stub, goes_on, known).map(Some).ok_or(renewed)
}

/// Of a thread that is about to begin a wait anew which a stop before this one has cut short: that stop, or the last move, was so short
/// ago that it has had no processor since.
fn capture_before(
    thread: &FrozenThread,
    goes_on: &mut Registers,
    known: &mut Known<'_>,
) -> std::result::Result<Option<Wait>, Renewed> {
    let is_before = goes_on.call_state() == CallState::User;
    let call = Call::of(goes_on.rax, goes_on).filter(|call| is_before && call.interrupted == Interrupted::Anew);
    let Some(call) = call else { return Ok(None) };
    let stub = stub_at(goes_on, known.memory);
    let cuts = thread.shown.record.as_ref().map(|record| record.cuts);
    let end = match &stub {
        Some(stub) => Some(stub.end),
        None => cuts.and_then(|cuts| known.ends.not_begun(thread.stopped.tid(), goes_on, cuts)),
    };
    let Some(end) = end else { return Ok(None) };
    let whole = waits::duration(whole(&call, known.memory).unwrap_or(0));
    let renewed = Renewed { tid: thread.tid, call: call.name(), whole };
    by_stub(end, stub, goes_on, known).map(Some).ok_or(renewed)
}

/// The wait, if its thread is about to make it in a stub.
fn stub_at(goes_on: &Registers, memory: &ProcessMemory) -> Option<InStub> {
    let mut bytes = [0; wait_stub::SIZE as usize];
    memory.read(goes_on.rip, &mut bytes).ok()?;
    wait_stub::read(&bytes, goes_on)
}

/// A wait with this end, which it gets by a stub; one in which its thread stands is left. None: there is no room for a stub.
fn by_stub(end: u64, left: Option<InStub>, goes_on: &mut Registers, known: &mut Known<'_>) -> Option<Wait> {
    let stub = known.places.take(goes_on.rsp)?;
    if let Some(InStub { own, .. }) = left {
        *goes_on = own;
    }
    Some(Wait { end, stub: Some(stub) })
}

/// Whether only a probe can tell how much of it is left when it is interrupted.
pub fn needs_a_probe(call: &Call, memory: &ProcessMemory) -> bool {
    let told = call.rest != 0 || call.interrupted == Interrupted::WrittenBack;
    !told && whole(call, memory).is_some_and(|whole| whole > SHORT)
}

/// The wait in which a thread goes on.
fn wait_in(stopped: &Registers, goes_on: &Registers) -> Option<Call> {
    match goes_on.call_state() {
        CallState::User if *goes_on != *stopped => Call::of(goes_on.rax, goes_on),
        CallState::Restarts => {
            Call::of(goes_on.orig_rax, goes_on).filter(|call| call.interrupted == Interrupted::WrittenBack)
        }
        _ => None,
    }
}

/// The time that its arguments say.
pub fn whole(call: &Call, memory: &ProcessMemory) -> Option<i64> {
    match call.time {
        Time::Milliseconds(ms) => Some(i64::from(ms) * 1_000_000),
        Time::Timespec(address) => time_at(memory, address, 1),
        Time::Timeval(address) => time_at(memory, address, 1000),
    }
}

fn time_at(memory: &ProcessMemory, address: u64, unit: i64) -> Option<i64> {
    let mut bytes = [0; 16];
    (address != 0).then(|| memory.read(address, &mut bytes).ok()).flatten()?;
    nanoseconds(&bytes, unit)
}

/// What waits are restored with.
pub struct There<'a> {
    /// In the new process.
    pub executor: &'a Executor,
    /// The kernel module, if this host has it.
    pub module: Option<&'a KernelModule>,
    /// How long waits still last.
    pub clock: Clock,
}

/// Tells how long a wait still lasts that comes from another host.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When it was sent, nanoseconds of that host's CLOCK_BOOTTIME.
    pub sent_there: u64,
    /// When that was by this host's clock.
    pub sent: Instant,
}

impl Clock {
    /// Nanoseconds, from now on.
    fn left(&self, wait: Wait) -> i64 {
        let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let now = Instant::now();
        // By the reckoning of the clocks it may be still to come.
        let passed = match self.sent.checked_duration_since(now) {
            Some(ahead) => -ns(ahead),
            None => ns(now.saturating_duration_since(self.sent)),
        };
        (wait.end as i64).saturating_sub(self.sent_there as i64).saturating_sub(passed)
    }
}

/// The time of a wait that its thread makes when it goes on.
#[derive(Debug)]
pub struct Given {
    wait: Wait,
    /// As it is made.
    made: Call,
    /// Which of the threads it is, and the registers with which it makes it.
    thread: usize,
    regs: Registers,
}

/// Gives waits what is left of them now; `threads` are all of the process, which stand. Between this and when they were restored lies the
/// answer of the source.
///
/// Err: one could not be given it, and lasts as long as when it was restored.
pub fn give_again(given: &[Given], clock: &Clock, threads: &mut [Stopped], memory: &ProcessMemory) -> Result<()> {
    const DOING: &str = "say how much is left of a wait";
    for Given { wait, made, thread, regs } in given {
        let left = clock.left(*wait);
        match (made.time, threads.get_mut(*thread)) {
            (Time::Timespec(address), _) => memory.write(address, &to_bytes(left, 1)).doing(|| DOING.into())?,
            (Time::Timeval(address), _) => memory.write(address, &to_bytes(left, 1000)).doing(|| DOING.into())?,
            (Time::Milliseconds(_), Some(thread)) => {
                let mut regs = *regs;
                wait_stub::set_time(made, &mut regs, left);
                thread.set_registers(&regs)?;
            }
            (Time::Milliseconds(_), None) => {}
        }
    }
    Ok(())
}

/// Sees to it that the waits of a new process's threads end in time. Nothing may run in these afterwards that waits, and their registers
/// must be set. Returns those to which [`give_again`] can give a later time.
pub fn restore(
    images: &mut [ThreadState],
    threads: &mut [&mut Stopped],
    there: &There<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Given>> {
    let There { executor, module, clock } = there;
    let (mut noted, mut given) = (Vec::new(), Vec::new());
    for (thread, image) in images.iter_mut().enumerate() {
        let Some(wait) = image.wait else { continue };
        let (regs, left) = (Registers::from_words(image.cpu.general), clock.left(wait));
        if regs.call_state() == CallState::Restarts {
            if let Some(made) = write_back(image, &regs, left, &executor.memory)? {
                given.push(Given { wait, made, thread, regs });
            }
        } else if let (Some(call), Some(stub)) = (Call::of(regs.rax, &regs), wait.stub) {
            let Some((bytes, made, regs)) = wait_stub::stub(stub, &call, &regs, left) else { continue };
            match executor.memory.write(stub, &bytes) {
                Ok(()) => {
                    image.cpu.general = regs.to_words();
                    given.push(Given { wait, made, thread, regs });
                }
                Err(why) => warnings.push(format!("thread {}: its {} begins anew here: {why}", image.tid, call.name())),
            }
        } else if let Some(call) = Call::of(regs.rax, &regs).filter(|call| call.interrupted == Interrupted::Noted) {
            noted.push((thread, regs, call, wait));
        }
    }
    if noted.is_empty() {
        return Ok(given);
    }
    let batches: Vec<Batch> = noted.iter().map(|(_, regs, call, wait)| begin(regs, call, clock.left(*wait))).collect();
    let mut threads: HashMap<usize, &mut Stopped> =
        threads.iter_mut().map(|thread| &mut **thread).enumerate().collect();
    let mut waiting: Vec<&mut Stopped> = noted.iter().filter_map(|(n, ..)| threads.remove(n)).collect();
    let blinded = Blinded::all(noted.iter().map(|(_, regs, call, _)| (regs, call)), &executor.memory)?;
    let begun = executor.begin_waits(&mut waiting, &batches);
    blinded.show(&executor.memory)?;
    for (((n, regs, call, wait), begun), thread) in noted.into_iter().zip(begun?).zip(&waiting) {
        let goes_on = match begun {
            Begun::Noted => {
                // Without, it ends by what it was begun with, up to two milliseconds later.
                if let Some(Err(why)) = module.map(|module| module.set_wait(thread, call.call, clock.left(wait))) {
                    warnings.push(why.to_string());
                }
                regs.noted()
            }
            // It has looked at no descriptor: made again, it does.
            Begun::Over(_) if call.call == libc::SYS_poll as u64 => continue,
            Begun::Over(result) => regs.returned(result),
        };
        if let Some(image) = images.get_mut(n) {
            image.cpu.general = goes_on.to_words();
        }
    }
    Ok(given)
}

/// The call with what is left as its time. The kernel keeps the other arguments, where it puts what is left then among them.
fn begin(regs: &Registers, call: &Call, left: i64) -> Batch {
    let mut batch = Batch::new();
    batch.call(libc::SYS_getpid, []);
    let mut args = waits::arguments(regs).map(Arg::from);
    if let Some(time) = args.get_mut(call.argument) {
        *time = match call.time {
            // Rounded up; one that is over when it is interrupted would have to begin anew.
            Time::Milliseconds(whole) => {
                let ms = left.max(SHORT).saturating_add(999_999) / 1_000_000;
                (ms.min(i64::from(whole).max(SHORT / 1_000_000)) as i32).into()
            }
            Time::Timespec(_) => batch.bytes(&to_bytes(left, 1)).into(),
            Time::Timeval(_) => batch.bytes(&to_bytes(left, 1000)).into(),
        };
    }
    batch.call(call.call as libc::c_long, args);
    batch
}

/// Changes the program's own time, as the kernel has done and would do again. Returns the wait, unless its time stays as it is.
fn write_back(image: &ThreadState, regs: &Registers, left: i64, memory: &ProcessMemory) -> Result<Option<Call>> {
    // With this the kernel leaves it as it is.
    const STICKY_TIMEOUTS: u64 = 0x400_0000;
    if image.calls.personality & STICKY_TIMEOUTS != 0 {
        return Ok(None);
    }
    let call = Call::of(regs.orig_rax, regs);
    match call.map(|call| call.time) {
        Some(Time::Timespec(address)) => memory.write(address, &to_bytes(left, 1)),
        Some(Time::Timeval(address)) => memory.write(address, &to_bytes(left, 1000)),
        _ => return Ok(None),
    }
    .doing(|| format!("write what is left of the wait of thread {}", image.tid))?;
    Ok(call)
}

/// The descriptors of polls, which see nothing meanwhile: what these are of may not be ready yet, or seem so.
struct Blinded(Vec<(u64, Vec<u8>)>);

impl Blinded {
    fn all<'a>(waits: impl Iterator<Item = (&'a Registers, &'a Call)>, memory: &ProcessMemory) -> Result<Blinded> {
        let mut all = Vec::new();
        for (regs, _) in waits.filter(|(_, call)| call.call == libc::SYS_poll as u64) {
            let (address, count) = (regs.rdi, regs.rsi.min(MOST_DESCRIPTORS));
            let mut seeing = vec![0; count as usize * POLLFD];
            memory.read(address, &mut seeing).doing(|| "read the descriptors of a poll".into())?;
            let mut blind = seeing.clone();
            for descriptor in blind.chunks_mut(POLLFD).flat_map(|one| one.get_mut(..4)) {
                // Those below 0 are passed over.
                descriptor.copy_from_slice(&(-1i32).to_le_bytes());
            }
            memory.write(address, &blind).doing(|| "write the descriptors of a poll".into())?;
            all.push((address, seeing));
        }
        Ok(Blinded(all))
    }

    fn show(self, memory: &ProcessMemory) -> Result<()> {
        // Two threads may poll with the same: the last one read the first one's.
        for (address, seeing) in self.0.iter().rev() {
            memory.write(*address, seeing).doing(|| "write the descriptors of a poll".into())?;
        }
        Ok(())
    }
}

/// What the report says of waits that begin anew. None: none does.
pub fn loss(renewed: &[Renewed], probed: bool) -> Option<String> {
    let longest = renewed.iter().max_by_key(|wait| wait.whole)?;
    let Renewed { tid, call, whole } = longest;
    let (count, begins) = match renewed.len() {
        1 => ("a wait".into(), "begins"),
        n => (format!("{n} waits"), "begin"),
    };
    let remedy = if probed { "" } else { "; --kernel-state kmod or ebpf can tell how much of most waits is left" };
    Some(format!(
        "{count} with a time-out {begins} anew there, and may last longer: that of thread {tid}, {call} of {whole:?}{}{remedy}",
        if renewed.len() > 1 { ", at most" } else { "" }
    ))
}
