//! Sets of System V semaphores.
//!
//! Properties: ID, key, creator, owner, permissions; of each semaphore its value, whether anybody has used it (GETPID), and what the end
//! of the process adds to it (SEM_UNDO); whether a semop was ever done on the set: programs wait for that to know that whoever made it
//! has set it up (semget(2)). When it was done last is when it comes here, and whoever has used it, this process has.
//!
//! Threads that wait stand in a queue, first come, first served. Every stop takes them out of it, and they queue up anew when they run
//! again, in whichever order they do.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results};
use migrate_linux::sysv_sem::{self, Operation, operations};

use super::sysv_ipc::{Access, Made};
use crate::error::{Doing, Error, Result};
use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = (
    "System V semaphores",
    "sets that only the process has used, or that a thread waits for: ID, key, values, creator, owner, permissions, what SEM_UNDO is to undo (with the eBPF probes; else the process stays); not when they were used, nor who waits first",
);

/// Calls in one batch.
const AT_ONCE: usize = 1000;
/// A semaphore's largest value (SEMVMX).
const MOST: i32 = 32767;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SetImage {
    /// What it is made with.
    pub made: Made,
    /// Who may use it.
    pub access: Access,
    /// A semop(2) has been done on it.
    pub used: bool,
    /// Its semaphores.
    pub semaphores: Vec<Semaphore>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Semaphore {
    /// Its value.
    pub value: u16,
    /// Somebody has used it.
    pub used: bool,
    /// What the end of the process adds to it.
    pub at_end: i16,
}

impl SetImage {
    /// Reads one; what is to be undone is not among it. Also returns how many threads wait for it.
    pub fn capture(id: i32) -> Result<(SetImage, u32)> {
        let doing = || format!("read System V semaphore set {id}");
        let told = sysv_sem::stat(id).doing(doing)?;
        let mut waiting = 0u32;
        let mut semaphores = Vec::new();
        for number in 0..told.count {
            let now = sysv_sem::look(id, number).doing(doing)?;
            waiting = waiting.saturating_add(now.waiting);
            // A value that nobody has set was set where this is not seen.
            semaphores.push(Semaphore { value: now.value, used: now.user != 0 || now.value != 0, at_end: 0 });
        }
        let (made, access) = (Made::of(id, told.permissions), Access::of(told.permissions));
        Ok((SetImage { made, access, used: told.used_at != 0, semaphores }, waiting))
    }

    /// Takes in what is added to which semaphore at the end.
    pub fn undoes(&mut self, adjustments: &[(u16, i16)]) {
        for (number, change) in adjustments {
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(*number)) {
                semaphore.at_end = *change;
            }
        }
    }

    /// Has the new process, by `run`, make of a new set what it was.
    pub fn restore(&self, mut run: impl FnMut(&Batch) -> Result<Results>) -> Result<()> {
        let id = self.made.id;
        let wrong = |one: &Semaphore| i32::from(one.value) > MOST;
        if self.semaphores.len() > 1 << 16 || self.semaphores.iter().any(wrong) {
            return Err(Error::Invalid(format!("System V semaphore set {id} has values that cannot be")));
        }
        let numbered: Vec<(u16, Semaphore)> = (0..=u16::MAX).zip(self.semaphores.iter().copied()).collect();
        for part in numbered.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            for (number, one) in part.iter().filter(|(_, one)| one.used || one.at_end != 0) {
                let value = i32::from(before(one));
                batch.must(libc::SYS_semctl, [id.into(), i32::from(*number).into(), libc::SETVAL.into(), value.into()]);
                add(&mut batch, id, &undone(*number, one));
            }
            if !batch.is_empty() {
                run(&batch)?;
            }
        }
        // Else one that is undone has been.
        if self.used
            && self.semaphores.iter().all(|one| one.at_end == 0)
            && let Some((number, one)) = numbered.iter().find(|(_, one)| one.used)
        {
            let mut batch = Batch::new();
            add(&mut batch, id, &without_effect(*number, one.value));
            run(&batch)?;
        }
        sysv_sem::set(id, self.access.mode, self.access.owner)
            .doing(|| format!("set owner and permissions of System V semaphore set {id}"))
    }
}

/// The value that it is set to first: setting it later would forget what is to be undone.
fn before(one: &Semaphore) -> u16 {
    if one.at_end == 0 { one.value } else { one.at_end.max(0) as u16 }
}

/// What makes of that value its own, and has the rest undone at the end.
fn undone(number: u16, one: &Semaphore) -> Vec<Operation> {
    // One less makes no difference at the end: no value is larger, and none gets below 0.
    let at_end = one.at_end.max(-i16::MAX);
    let now = (-at_end).max(0);
    let rest = one.value as i16 - now;
    let flags = |flags: i32| (flags | libc::IPC_NOWAIT) as i16;
    let all = [(-at_end, flags(libc::SEM_UNDO)), (rest, flags(0))];
    let all = all.into_iter().filter(|(change, _)| at_end != 0 && *change != 0);
    all.map(|(change, flags)| Operation { semaphore: number, change, flags }).collect()
}

fn without_effect(number: u16, value: u16) -> Vec<Operation> {
    let changes: &[i16] = if value == 0 { &[0] } else { &[-1, 1] };
    changes.iter().map(|&change| Operation { semaphore: number, change, flags: libc::IPC_NOWAIT as i16 }).collect()
}

/// All of them are done at once.
fn add(batch: &mut Batch, id: i32, all: &[Operation]) {
    if !all.is_empty() {
        let bytes = batch.bytes(&operations(all));
        batch.must(libc::SYS_semop, [id.into(), bytes.into(), all.len().into()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_semaphore_gets_its_value_and_what_is_undone(value in 0u16..=32767, at_end: i16) {
            let one = Semaphore { value, used: true, at_end };
            let (mut now, mut left) = (i32::from(before(&one)), 0i32);
            for operation in undone(3, &one) {
                prop_assert!(operation.semaphore == 3 && operation.change != 0);
                now += i32::from(operation.change);
                prop_assert!((0..=MOST).contains(&now), "ERANGE, or EAGAIN: {now}");
                if i32::from(operation.flags) & libc::SEM_UNDO != 0 {
                    left -= i32::from(operation.change);
                }
            }
            prop_assert_eq!(now, i32::from(value));
            // What the kernel makes of it at the end (exit_sem in ipc/sem.c).
            let ended = |change: i32| (i32::from(value) + change).clamp(0, MOST);
            prop_assert_eq!(ended(left), ended(at_end.into()));
        }
    }
}
