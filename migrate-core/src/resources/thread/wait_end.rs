//! When a wait would have ended that a stop has cut short and that begins anew when it goes on; and where what gives it the time that is
//! left can be put.

use std::collections::BTreeMap;

use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::regs::Registers;
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::wait_stub::{self, SIZE};
use migrate_linux::waits::boot_time;

use crate::image::layout::{Backing, EXEC, Layout};

/// When waits would have ended that a stop before the freeze has made begin anew.
#[derive(Debug, Default)]
pub struct Ends(BTreeMap<i32, End>);

#[derive(Debug, Clone, Copy)]
struct End {
    /// On this host's CLOCK_BOOTTIME, nanoseconds, like the other one.
    really: u64,
    /// When it ends now.
    anew: u64,
    /// How many of the thread's waits had been cut short, it among them.
    cuts: u64,
    /// What the thread makes it anew with.
    goes_on: Registers,
}

/// A wait that the stop in which its thread stands makes begin anew.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// The thread.
    pub tid: i32,
    /// When it would have ended, nanoseconds of this host's CLOCK_BOOTTIME.
    pub really: u64,
    /// How long it lasts from its beginning, nanoseconds.
    pub whole: i64,
    /// How many of the thread's waits have been cut short, it among them.
    pub cuts: u64,
    /// The registers with which the thread makes it anew.
    pub goes_on: Registers,
}

/// A call that is made again begins when its thread gets to run. One that is over by what it waited for counts as cut short too, so that
/// the next one is told from it.
const SAME: u64 = 200_000_000;

impl Ends {
    /// A wait begins anew now.
    pub fn begins_anew(&mut self, cut: Cut) {
        let Cut { tid, really, whole, cuts, goes_on } = cut;
        self.0.insert(tid, End { really, anew: boot_time().saturating_add_signed(whole), cuts, goes_on });
    }

    /// Whether a wait of this thread has begun anew.
    pub fn has(&self, tid: i32) -> bool {
        self.0.contains_key(&tid)
    }

    /// When the wait really ends that a stop has made begin anew and to which the thread, which stands with these registers, has not come
    /// yet: it has had no processor since. None: that is not how it stands.
    pub fn not_begun(&self, tid: i32, stopped: &Registers, cuts: u64) -> Option<u64> {
        let of_calls = |regs: &Registers| Registers { orig_rax: 0, ..*regs };
        self.0
            .get(&tid)
            .filter(|end| end.cuts == cuts && boot_time() < end.anew && of_calls(&end.goes_on) == of_calls(stopped))
            .map(|end| end.really)
    }

    /// When a wait really ends that ends at this time now and has just been cut short.
    pub fn really(&self, tid: i32, now: u64, cuts: u64) -> u64 {
        self.0
            .get(&tid)
            .filter(|end| end.anew.abs_diff(now) < SAME && end.cuts + 1 == cuts)
            .map_or(now, |end| end.really)
    }
}

/// When a wait of a stopped thread would have ended that was cut short just now. None: none was, so that it has only just begun.
pub fn ends_at(record: &ThreadRecord, whole: i64) -> Option<u64> {
    // Until it is read that a stop has cut it short.
    const JUST: u64 = 200_000_000;
    let age = record.now.checked_sub(record.cut_at).filter(|_| record.cut_at != 0)?;
    let left = (record.cut_end as i64).saturating_sub(record.now as i64);
    // It cannot last longer than from now: then it is of an earlier call.
    (age < JUST && left <= whole).then(|| record.read_at.saturating_add_signed(left))
}

/// Where stubs of threads that wait can be put: behind the code of the program and its libraries.
pub struct Places<'a> {
    layout: &'a Layout,
    memory: &'a ProcessMemory,
    reserved: u64,
    /// Address, and what lies there. None: nobody has wanted one yet.
    found: Option<Vec<(u64, Vec<u8>)>>,
}

impl<'a> Places<'a> {
    /// The last `reserved` bytes of each mapping are not used.
    pub fn new(layout: &'a Layout, memory: &'a ProcessMemory, reserved: u64) -> Places<'a> {
        Places { layout, memory, reserved, found: None }
    }

    fn find(&self) -> Vec<(u64, Vec<u8>)> {
        const PAGE: u64 = 4096;
        let mut all = Vec::new();
        let is_code = |backing: &Backing| matches!(backing, Backing::File { .. });
        for vma in self.layout.vmas.iter().filter(|v| v.protection & EXEC != 0 && !v.shared && is_code(&v.backing)) {
            let start = vma.end.saturating_sub(PAGE).max(vma.start);
            let mut bytes = vec![0; (vma.end.saturating_sub(self.reserved).saturating_sub(start)) as usize];
            if self.memory.read(start, &mut bytes).is_ok() {
                // From the end to the first that holds something else.
                let parts = bytes.chunks_exact(SIZE as usize).enumerate();
                let is_free = |part: &[u8]| part.iter().all(|b| *b == 0) || wait_stub::is_one(part);
                let free = parts.rev().take_while(|(_, part)| is_free(part));
                all.extend(free.map(|(n, part)| (start + n as u64 * SIZE, part.to_vec())));
            }
        }
        all
    }

    /// Takes one for a thread with this stack pointer: that which it had before, else one that is free.
    pub fn take(&mut self, stack_pointer: u64) -> Option<u64> {
        let found = self.found.take().unwrap_or_else(|| self.find());
        let all = self.found.insert(found);
        let its_own = all.iter().position(|(_, bytes)| wait_stub::is_of(bytes, stack_pointer));
        let at = its_own.or_else(|| all.iter().position(|(_, bytes)| wait_stub::is_room(bytes, stack_pointer)))?;
        Some(all.swap_remove(at).0)
    }
}
