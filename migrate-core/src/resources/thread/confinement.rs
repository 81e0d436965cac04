//! Seccomp (seccomp(2)): strict mode, or filters with their flags, in the order in which they were installed.
//!
//! While a process is moved its filters must not judge the calls that are made in it: as long as its threads stand, seccomp is
//! suspended for them. When the tracer dies, that ends. In the new process this does no harm, for that dies too. In the original it
//! does if the calls are just being made: they, and those that lead back to the program, are judged like the program's own, and a filter
//! that kills will kill. No order of calls avoids that, so it is told beforehand: see [`RISK`].
//!
//! Filters are the last thing that a new thread gets but for the first thread's credentials: to install one takes no_new_privs or
//! CAP_SYS_ADMIN. Where all threads have the same ones, the first thread installs them for all (SECCOMP_FILTER_FLAG_TSYNC), while it
//! still may do everything. A filter that asks a supervisor cannot move, because the supervisor stays.

use std::collections::HashMap;

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::Batch;
use migrate_linux::seccomp::{self, INSTRUCTION, LONGEST};

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, Row};

/// What of it moves.
pub const ROW: Row = (
    "seccomp",
    "strict mode, and filters in their order with their flags, of each thread; those that all threads share stay shared",
);

/// What the operator should know of a process that has it.
pub const RISK: &str = "it runs under seccomp: should this agent be killed in the half millisecond in which it asks the process, \
                        a filter that kills will end it";

/// A filter as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Filter {
    /// Instructions of classic BPF.
    program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_LOG.
    log: bool,
}

/// What a thread is confined to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Confinement {
    /// Nothing.
    None,
    /// To read, write, exit and sigreturn.
    Strict,
    /// To what all of these allow, by their places in the table, the first one first.
    Filters(Vec<u32>),
}

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Confinements {
    /// Each filter once.
    filters: Vec<Filter>,
    /// Of each thread, in the order of the threads. Empty: none has any.
    threads: Vec<Confinement>,
}

/// Reads it. `may_install`: whether a thread, by its place, could install a filter itself, or gets to do so while it may do everything.
pub fn capture(threads: &[FrozenThread], may_install: impl Fn(usize) -> bool) -> Result<Confinements> {
    let mut confined = Confinements::default();
    if threads.iter().all(|thread| thread.shown.seccomp == 0) {
        return Ok(confined);
    }
    // Threads of which the kernel says that they have the same filters need not be read again.
    let mut known: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut numbers = HashMap::new();
    for thread in threads {
        confined.threads.push(match thread.shown.seccomp {
            0 => Confinement::None,
            1 => Confinement::Strict,
            2 => {
                let shared = thread.shown.record.as_ref().map(|record| record.seccomp_filter);
                let filters = match shared.and_then(|shared| known.get(&shared)) {
                    Some(filters) => filters.clone(),
                    None => read(thread, &mut confined.filters, &mut numbers)?,
                };
                if let Some(shared) = shared {
                    known.insert(shared, filters.clone());
                }
                Confinement::Filters(filters)
            }
            other => return Err(refused(thread, &format!("is in seccomp mode {other}"))),
        });
    }
    if confined.common().is_none() {
        let unable =
            |&(n, (_, has)): &(usize, (_, &Confinement))| matches!(has, Confinement::Filters(_)) && !may_install(n);
        if let Some((_, (thread, _))) = threads.iter().zip(&confined.threads).enumerate().find(unable) {
            return Err(refused(thread, "has seccomp filters that others have not, and may not install them again"));
        }
    }
    Ok(confined)
}

fn refused(thread: &FrozenThread, what: &str) -> Error {
    Error::Refused(vec![format!("thread {} {what}; that cannot move", thread.stopped.tid())])
}

fn read(thread: &FrozenThread, all: &mut Vec<Filter>, numbers: &mut HashMap<Filter, u32>) -> Result<Vec<u32>> {
    let mut chain = Vec::new();
    while let Some(seccomp::Filter { program, log }) = thread.stopped.seccomp_filter(chain.len())? {
        if asks_a_supervisor(&program) {
            return Err(refused(
                thread,
                "has a seccomp filter that asks a supervisor (SECCOMP_RET_USER_NOTIF), who stays",
            ));
        }
        let filter = Filter { program, log };
        chain.push(*numbers.entry(filter.clone()).or_insert_with(|| {
            all.push(filter);
            all.len() as u32 - 1
        }));
    }
    Ok(chain)
}

/// Whether a program has an instruction that returns SECCOMP_RET_USER_NOTIF, or whatever it has computed.
fn asks_a_supervisor(program: &[u8]) -> bool {
    const RETURN: u16 = 0x06;
    const RETURN_COMPUTED: u16 = 0x16;
    const USER_NOTIF: u32 = 0x7fc0_0000;
    const ACTION: u32 = 0xffff_0000;
    // `struct sock_filter`: code, two jumps, constant.
    program.as_chunks::<INSTRUCTION>().0.iter().any(|&[a, b, _, _, c, d, e, f]| match u16::from_le_bytes([a, b]) {
        RETURN => u32::from_le_bytes([c, d, e, f]) & ACTION == USER_NOTIF,
        RETURN_COMPUTED => true,
        _ => false,
    })
}

impl Confinements {
    /// Whether a peer's makes sense for so many threads.
    pub fn check(&self, threads: usize) -> Result<()> {
        let sound = |filter: &Filter| {
            let length = filter.program.len();
            length > 0 && length <= LONGEST * INSTRUCTION && length.is_multiple_of(INSTRUCTION)
        };
        let there = |has: &Confinement| match has {
            Confinement::Filters(chain) => chain.iter().all(|n| (*n as usize) < self.filters.len()),
            _ => true,
        };
        let fits = self.threads.is_empty() || self.threads.len() == threads;
        match fits && self.filters.iter().all(sound) && self.threads.iter().all(there) {
            true => Ok(()),
            false => Err(Error::Invalid("the seccomp filters make no sense".into())),
        }
    }

    /// The filters of all threads, when they are the same.
    fn common(&self) -> Option<&[u32]> {
        match self.threads.first() {
            Some(first @ Confinement::Filters(chain)) if self.threads.iter().all(|has| has == first) => Some(chain),
            _ => None,
        }
    }

    /// Whether the first thread confines all of them.
    pub fn confine_all(&self) -> bool {
        self.common().is_some()
    }

    /// Whether a thread, by its place, confines itself. For whoever confines, seccomp must be suspended.
    pub fn confines_itself(&self, thread: usize) -> bool {
        !self.confine_all() && self.threads.get(thread).is_some_and(|has| *has != Confinement::None)
    }

    /// Adds the first thread's calls that confine all; nothing but credentials may come after them.
    pub fn restore_all(&self, batch: &mut Batch) {
        self.install(self.common().unwrap_or_default(), TSYNC | TSYNC_ESRCH, batch);
    }

    /// Adds the calls of a thread, by its place, that confine it; nothing but credentials may come after them.
    pub fn restore(&self, thread: usize, batch: &mut Batch) {
        if !self.confines_itself(thread) {
            return;
        }
        match self.threads.get(thread) {
            None | Some(Confinement::None) => {}
            Some(Confinement::Strict) => {
                batch.must(libc::SYS_seccomp, [SET_MODE_STRICT.into(), 0.into(), 0.into()]);
            }
            Some(Confinement::Filters(chain)) => self.install(chain, 0, batch),
        }
    }

    fn install(&self, chain: &[u32], flags: u64, batch: &mut Batch) {
        chain.iter().filter_map(|n| self.filters.get(*n as usize)).for_each(|filter| install(filter, flags, batch));
    }
}

const SET_MODE_STRICT: u64 = 0;
const SET_MODE_FILTER: u64 = 1;
const TSYNC: u64 = 1;
const LOG: u64 = 1 << 1;
/// What the CPU may guess is restored for itself.
const SPEC_ALLOW: u64 = 1 << 2;
const TSYNC_ESRCH: u64 = 1 << 4;

fn install(filter: &Filter, flags: u64, batch: &mut Batch) {
    let program = batch.bytes(&filter.program);
    // `struct sock_fprog`: the number of instructions, and where they are.
    let mut header = [0; 16];
    header[..2].copy_from_slice(&((filter.program.len() / INSTRUCTION) as u16).to_le_bytes());
    let header = batch.bytes(&header);
    batch.point(header, 8, program);
    let flags = flags | SPEC_ALLOW | if filter.log { LOG } else { 0 };
    batch.must(libc::SYS_seccomp, [SET_MODE_FILTER.into(), flags.into(), header.into()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returning(action: u32) -> Vec<u8> {
        let [c, d, e, f] = action.to_le_bytes();
        vec![0x06, 0, 0, 0, c, d, e, f]
    }

    #[test]
    fn a_filter_that_asks_is_known() {
        assert!(!asks_a_supervisor(&returning(0x7fff_0000)));
        assert!(!asks_a_supervisor(&returning(0x0005_0001)));
        assert!(asks_a_supervisor(&returning(0x7fc0_0000)));
        assert!(asks_a_supervisor(&[returning(0x7fff_0000), returning(0x7fc0_0001)].concat()));
        assert!(asks_a_supervisor(&[0x16, 0, 0, 0, 0, 0, 0, 0]));
        // A load of the same number.
        assert!(!asks_a_supervisor(&[0x20, 0, 0, 0, 0, 0, 0xc0, 0x7f]));
    }

    #[test]
    fn a_peers_filters_are_checked() {
        let filter = |length| Filter { program: vec![0; length], log: false };
        let one = |filter, n| Confinements { filters: vec![filter], threads: vec![Confinement::Filters(vec![n])] };
        assert!(one(filter(8), 0).check(1).is_ok());
        assert!(Confinements::default().check(7).is_ok());
        for bad in
            [one(filter(8), 1), one(filter(0), 0), one(filter(7), 0), one(filter((LONGEST + 1) * INSTRUCTION), 0)]
        {
            assert!(bad.check(1).is_err(), "{bad:?}");
        }
        assert!(one(filter(8), 0).check(2).is_err());
    }

    #[test]
    fn who_confines_itself() {
        let chain = |n| Confinement::Filters(vec![n]);
        let with = |threads: Vec<Confinement>| Confinements { filters: Vec::new(), threads };
        let of = |threads: Vec<Confinement>| [0, 1].map(|n| with(threads.clone()).confines_itself(n));
        assert_eq!(of(vec![chain(1), chain(1)]), [false, false], "the first thread does it for both");
        assert!(with(vec![chain(1), chain(1)]).confine_all() && !with(vec![chain(1), chain(2)]).confine_all());
        assert_eq!(of(vec![chain(1), chain(2)]), [true, true]);
        assert_eq!(of(vec![Confinement::None, Confinement::Strict]), [false, true]);
        assert_eq!(of(vec![Confinement::Strict, Confinement::Strict]), [true, true]);
        assert_eq!(of(Vec::new()), [false, false]);
    }
}
