//! System V semaphores and message queues that a process uses. They are a host's: whoever knows the ID may use one, and nobody has it
//! open. So which are the process's own is told by what the kernel notes:
//!
//! - who used each semaphore last, who last sent to a queue and took from it, and when; a process of the same number that began after
//!   that is another one;
//! - what a thread waits for in this moment;
//! - for which sets something is undone at the process's end (SEM_UNDO), if the probe that reads it is there.
//!
//! One that has been used by the process, or is waited for, is its own and moves with it, unless another process that lives has used it,
//! or waits for it: that one would be told by its next call that there is none. Who has ended counts as nobody: should its like come
//! again and look for it, it finds it where the process is. Nothing says who will use one that it has made and not used yet, and nothing
//! that it uses one of which others have been the last to use each part.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use migrate_linux::libc;
use migrate_linux::regs::CallState;
use migrate_linux::sysv_ipc::Kind;
use migrate_linux::undo_probe::{Undo, UndoProbe};
use migrate_linux::waits::boot_time;
use migrate_linux::{sysv_msg, sysv_sem};

use super::told_files::{self, Loading};
use crate::error::{Doing, Error, Result};
use crate::image::sysv_ipc::{Announced, Images};
use crate::plan::KernelStateChoice;
use crate::proc::listing::{name_of, read_pids, read_tids};
use crate::proc::process::{Process, has_ended};
use crate::proc::stat::read_stat;
use crate::proc::status::read_status;
use crate::proc::syscall::read_syscall;
use crate::proc::sysvipc::{MessageQueue, SemaphoreSet, read_queues, read_semaphores};
use crate::resources::FrozenThread;
use crate::resources::process::message_queues::{MOST_BYTES, QueueImage, too_large};
use crate::resources::process::semaphores::SetImage;
use crate::resources::process::sysv_ipc::{Made, name, removal};

/// Of `starttime` in /proc/PID/stat (proc_pid_stat(5): sysconf(_SC_CLK_TCK), which is 100 on x86_64).
const TICKS_PER_SECOND: u64 = 100;
/// Of more threads than this, the freeze will see what they wait for.
const FEW: usize = 64;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u8, i32);

impl Id {
    fn new(kind: Kind, id: i32) -> Id {
        Id(kind as u8, id)
    }
}

/// One that is there, as it is listed.
#[derive(Debug, Clone, Copy)]
struct Listed {
    kind: Kind,
    id: i32,
    key: i32,
    /// Semaphores of a set, bytes in a queue.
    size: u64,
    creator: u32,
    /// When it was last used or changed, and whether it was ever used.
    touched_at: i64,
    used: bool,
}

/// One that is the process's own.
#[derive(Debug, Clone)]
struct Own {
    kind: Kind,
    id: i32,
    key: i32,
    semaphores: u32,
    /// Who has used it, the process and those that have ended.
    users: BTreeSet<i32>,
}

/// Those of a process.
#[derive(Debug, Default)]
pub struct SysvIpc {
    own: Vec<Own>,
    /// All that it was ever seen to use or to wait for.
    seen: BTreeSet<Id>,
    /// When they were last looked at.
    looked_at: i64,
    /// When the process began, once that was asked.
    began_at: Option<i64>,
    loading: Option<Loading<UndoProbe>>,
    probe: Option<UndoProbe>,
    /// Why that is not there.
    no_probe: String,
    undo: Vec<Undo>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Why it cannot move.
    pub obstacles: Vec<String>,
    /// What is not known.
    pub losses: Vec<String>,
}

impl SysvIpc {
    /// Looks while it runs. `user`: the one that it is.
    pub fn look(&mut self, process: Process, user: u32) -> Result<Found> {
        let pid = process.pid;
        let waits = waited_for_by(pid);
        let listed = list()?;
        let since = match listed.is_empty() && waits.is_empty() {
            true => 0,
            false => self.began(pid)?,
        };
        self.read_undo();
        let mut found = self.judge(pid, &listed, &waits, since)?;
        found.obstacles.extend(self.others_that_wait(process));
        let unused = listed.iter().filter(|one| !one.used && one.creator == user && one.touched_at >= since);
        let unused = unused.filter(|one| !self.seen.contains(&Id::new(one.kind, one.id)));
        let nobody = |one: &&Listed| users_of(one.kind, one.id).is_ok_and(|users| users.is_empty());
        let unused: Vec<&Listed> = unused.filter(nobody).collect();
        found.losses.extend(perhaps_its_own(&unused));
        Ok(found)
    }

    /// Looks once more at the frozen process: what has come up since.
    pub fn settle(&mut self, pid: i32, threads: &[FrozenThread]) -> Result<Vec<String>> {
        let mut waits = BTreeSet::new();
        for thread in threads {
            let regs = thread.stopped.registers()?;
            if regs.call_state() != CallState::User {
                waits.extend(waits_for(regs.orig_rax, regs.rdi));
            }
        }
        // A kernel without them says so.
        let any = || sysv_sem::count_all().unwrap_or(0) + sysv_msg::count_all().unwrap_or(0) != 0;
        if waits.is_empty() && self.own.is_empty() && !any() {
            return Ok(Vec::new());
        }
        let since = self.began(pid)?.max(self.looked_at - 1);
        self.read_undo();
        let mut obstacles = self.judge(pid, &list()?, &waits, since)?.obstacles;
        obstacles.extend(self.undo_obstacles(pid));
        Ok(obstacles)
    }

    /// Begins to load what reads what is to be undone, if there are semaphores and that has not been done.
    pub fn load_probe(&mut self, choice: KernelStateChoice, pid: i32) {
        if self.loading.is_none() && self.probe.is_none() && self.sets().next().is_some() {
            self.loading = Some(told_files::begin_undo(choice, pid));
        }
    }

    /// Waits until it is loaded, or cannot be. Returns the reasons that are there without it.
    pub fn finish_loading(&mut self) -> Vec<String> {
        if let Some(loading) = self.loading.take() {
            match loading.finish_or_why() {
                Ok(probe) => self.probe = Some(probe),
                Err(why) => self.no_probe = why,
            }
            self.read_undo();
        }
        if self.probe.is_none() { self.what_it_may_undo() } else { Vec::new() }
    }

    /// What the destination can make while the process still runs.
    pub fn announced(&self) -> Result<Announced> {
        let mut announced = Announced::of_this_namespace();
        for one in &self.own {
            // One that has been removed meanwhile is none.
            match one.kind {
                Kind::Semaphores => {
                    let told = sysv_sem::stat(one.id).ok().map(|told| (Made::of(one.id, told.permissions), told.count));
                    announced.sets.extend(told);
                }
                _ => {
                    let told = sysv_msg::stat(one.id).ok().map(|told| Made::of(one.id, told.permissions));
                    announced.queues.extend(told);
                }
            }
        }
        Ok(announced)
    }

    /// What they are, of the frozen process.
    pub fn capture(&self) -> Result<Images> {
        let mut images = Images::default();
        for one in &self.own {
            if one.kind == Kind::Messages {
                images.queues.push(QueueImage::capture(one.id)?);
                continue;
            }
            let (mut set, waiting) = SetImage::capture(one.id)?;
            // The process's own threads have been taken out.
            if waiting != 0 {
                let name = name(one.kind, one.id, one.key);
                return Err(Error::Refused(vec![format!(
                    "another process waits for {name}, which the process uses, and stays; they cannot be parted"
                )]));
            }
            let its = self.undo.iter().filter(|undo| undo.set == one.id);
            its.filter_map(|undo| undo.adjustments.as_ref()).for_each(|changes| set.undoes(changes));
            images.sets.push(set);
        }
        Ok(images)
    }

    /// Removes them from this host, which the process has left. Returns what stays, in words.
    pub fn remove_left_behind(&self, pid: i32) -> Vec<String> {
        let mut left = Vec::new();
        for Own { kind, id, key, users: users_then, .. } in &self.own {
            let (what, remedy) = (name(*kind, *id, *key), removal(*kind, *id));
            let users = match users_of(*kind, *id) {
                Ok(users) => users,
                // Somebody was quicker.
                Err(_) if !kind.exists(*id) => continue,
                Err(error) => {
                    left.push(format!("{what} stays here too: {error}: {remedy}"));
                    continue;
                }
            };
            let new = users.difference(users_then).find(|user| **user != pid && lives(**user, i64::MAX));
            if let Some(&other) = new {
                let name = name_of(other);
                left.push(format!(
                    "{what} stays here too, because process {other} ({name}) has used it meanwhile: {remedy}"
                ));
            } else if let Err(error) = kind.remove(*id) {
                left.push(format!("{what} stays here too: {error}: {remedy}"));
            }
        }
        left
    }

    /// Each of them, for people: a kind, and which it is.
    pub fn described(&self) -> impl Iterator<Item = (Kind, String)> {
        self.own.iter().map(|one| (one.kind, format!("{} (key {:#x})", one.id, one.key)))
    }

    fn sets(&self) -> impl Iterator<Item = &Own> {
        self.own.iter().filter(|one| one.kind == Kind::Semaphores)
    }

    fn began(&mut self, pid: i32) -> Result<i64> {
        if let Some(began) = self.began_at {
            return Ok(began);
        }
        let ticks = read_stat(pid).doing(|| format!("read process {pid}"))?.starttime;
        Ok(*self.began_at.insert(seconds_of(ticks).saturating_sub(1)))
    }

    /// Finds those that are its own among all. `since`: those that it was not known to use before it has used since then, if at all.
    fn judge(&mut self, pid: i32, listed: &[Listed], waits: &BTreeSet<Id>, since: i64) -> Result<Found> {
        let looks_at = now();
        self.own.clear();
        let mut found = Found::default();
        let mut bytes = 0u64;
        for one in listed {
            let Listed { kind, id, key, .. } = *one;
            let seen = self.seen.contains(&Id::new(kind, id));
            let waited_for = waits.contains(&Id::new(kind, id));
            let undone = kind == Kind::Semaphores && self.undo.iter().any(|undo| undo.set == id);
            if !seen && !waited_for && !undone && one.touched_at < since {
                continue;
            }
            let users = match users_of(kind, id) {
                Ok(users) => users,
                // It has been removed meanwhile.
                Err(_) if !kind.exists(id) => continue,
                Err(error) => return Err(Error::io(format!("look at {}", name(kind, id, key)), error)),
            };
            let used = users.contains(&pid) && one.touched_at >= self.began(pid)?;
            if !seen && !used && !waited_for && !undone {
                continue;
            }
            self.seen.insert(Id::new(kind, id));
            if let Some(&other) = users.iter().find(|user| **user != pid && lives(**user, one.touched_at)) {
                let (what, other_name) = (name(kind, id, key), name_of(other));
                let how = if waited_for { "a thread of it waits for" } else { "it has used" };
                found.obstacles.push(format!(
                    "{how} {what}, and so has process {other} ({other_name}), which stays; they cannot be parted: let one of them end, or use another"
                ));
                continue;
            }
            let semaphores = if kind == Kind::Semaphores { one.size as u32 } else { 0 };
            bytes += if kind == Kind::Messages { one.size } else { 0 };
            self.own.push(Own { kind, id, key, semaphores, users });
        }
        if bytes > MOST_BYTES {
            found.obstacles.push(too_large(bytes));
        }
        self.looked_at = looks_at;
        Ok(found)
    }

    /// The threads of other processes that wait for what is its own. A queue does not tell that there are any.
    fn others_that_wait(&self, process: Process) -> Vec<String> {
        if self.own.is_empty() {
            return Vec::new();
        }
        let namespace = |tid: i32| std::fs::read_link(format!("/proc/{tid}/ns/ipc")).ok();
        let of_it = namespace(process.alive);
        let mut reasons = Vec::new();
        for other in read_pids().unwrap_or_default().into_iter().filter(|other| *other != process.pid) {
            let waits = read_tids(other).unwrap_or_default().into_iter().find_map(|tid| {
                let waiting = read_syscall(other, tid).ok()??;
                let Id(kind, id) = waits_for(waiting.call, waiting.arguments[0])?;
                let own = self.own.iter().find(|own| (own.kind as u8, own.id) == (kind, id));
                own.filter(|_| namespace(tid) == of_it)
            });
            if let Some(Own { kind, id, key, .. }) = waits {
                reasons.push(format!(
                    "process {other} ({}) waits for {}, which the process uses, and stays; they cannot be parted: let one of them end, or use another",
                    name_of(other),
                    name(*kind, *id, *key)
                ));
            }
        }
        reasons
    }

    /// Reads what is to be undone, if that can be read.
    fn read_undo(&mut self) {
        let sets: Vec<(i32, u32)> = self.sets().map(|set| (set.id, set.semaphores)).collect();
        let Some(probe) = &mut self.probe else { return };
        match probe.read(&sets) {
            // Those of sets that have been removed have no ID any more.
            Ok(undo) => self.undo = undo.into_iter().filter(|undo| undo.set >= 0).collect(),
            Err(why) => {
                (self.probe, self.no_probe) = (None, why.to_string());
            }
        }
    }

    /// The reasons that there are while what is to be undone cannot be read.
    fn what_it_may_undo(&self) -> Vec<String> {
        let why = if self.no_probe.is_empty() { "it has come up meanwhile; try again" } else { &self.no_probe };
        let reason = |set: &Own| {
            format!(
                "what it has done to {} may have to be undone at its end (SEM_UNDO), which cannot be read: {why}",
                name(set.kind, set.id, set.key)
            )
        };
        self.sets().map(reason).collect()
    }

    /// Why what is to be undone cannot move.
    fn undo_obstacles(&mut self, pid: i32) -> Vec<String> {
        if self.sets().next().is_none() {
            return Vec::new();
        }
        if self.undo.iter().any(|undo| undo.adjustments.is_none()) {
            // Its sets are known now.
            self.read_undo();
        }
        if self.probe.is_none() {
            return self.what_it_may_undo();
        }
        let mut obstacles = Vec::new();
        for undo in &self.undo {
            let Some(set) = self.sets().find(|set| set.id == undo.set) else { continue };
            let what = name(set.kind, set.id, set.key);
            match &undo.adjustments {
                None => obstacles.push(format!(
                    "what is to be undone of {what} at its end (SEM_UNDO) cannot be read; try again"
                )),
                Some(changes) if undo.tid != pid && !changes.is_empty() => obstacles.push(format!(
                    "thread {} undoes what it has done to {what} at its own end, and not at the process's (unshare CLONE_SYSVSEM); that cannot move yet",
                    undo.tid
                )),
                Some(_) => {}
            }
        }
        obstacles
    }
}

/// All that there are.
fn list() -> Result<Vec<Listed>> {
    let (sets, queues) = (
        read_semaphores().doing(|| "list System V semaphores".into())?,
        read_queues().doing(|| "list System V message queues".into())?,
    );
    let set = |SemaphoreSet { id, key, count, creator, used_at, changed_at }| Listed {
        kind: Kind::Semaphores,
        id,
        key,
        size: u64::from(count),
        creator,
        touched_at: changed_at.max(used_at),
        used: used_at != 0,
    };
    let queue = |MessageQueue { id, key, bytes, creator, sent_at, received_at, changed_at, .. }| Listed {
        kind: Kind::Messages,
        id,
        key,
        size: bytes,
        creator,
        touched_at: changed_at.max(sent_at).max(received_at),
        used: sent_at.max(received_at) != 0,
    };
    Ok(sets.into_iter().map(set).chain(queues.into_iter().map(queue)).collect())
}

/// Whoever has used one last, each part of it; also who has ended.
fn users_of(kind: Kind, id: i32) -> std::io::Result<BTreeSet<i32>> {
    let mut users = BTreeSet::new();
    if kind == Kind::Messages {
        // Who was waiting is noted by the thread's number (pipelined_send in ipc/msg.c).
        let told = sysv_msg::stat(id)?;
        users.extend([told.sender, told.receiver].map(process_of));
    } else {
        for semaphore in 0..sysv_sem::stat(id)?.count {
            users.insert(sysv_sem::last_user(id, semaphore)?);
        }
    }
    users.remove(&0);
    Ok(users)
}

/// The process that a thread is of; one that has ended is told as it is.
fn process_of(tid: i32) -> i32 {
    if tid == 0 { 0 } else { read_status(tid).map_or(tid, |status| status.tgid) }
}

/// Whether this process lives that has done something by then, seconds of CLOCK_REALTIME.
fn lives(pid: i32, done_at: i64) -> bool {
    // What cannot be read has ended: this is root.
    let Ok(stat) = read_stat(pid) else { return false };
    !has_ended(&stat) && seconds_of(stat.starttime).saturating_sub(1) <= done_at
}

/// CLOCK_REALTIME of a time in ticks since the boot, to a second.
fn seconds_of(ticks: u64) -> i64 {
    let age = (boot_time() / 1_000_000_000).saturating_sub(ticks / TICKS_PER_SECOND);
    now().saturating_sub(age as i64)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}

/// What a thread in this call waits for; `id`: its first argument.
fn waits_for(call: u64, id: u64) -> Option<Id> {
    let kind = match call as i64 {
        libc::SYS_semop | libc::SYS_semtimedop => Kind::Semaphores,
        libc::SYS_msgsnd | libc::SYS_msgrcv => Kind::Messages,
        _ => return None,
    };
    Some(Id::new(kind, id as i32))
}

/// What the threads of a running process wait for.
fn waited_for_by(pid: i32) -> BTreeSet<Id> {
    let tids = read_tids(pid).unwrap_or_default().into_iter().take(FEW);
    let waits = |tid| {
        let waiting = read_syscall(pid, tid).ok()??;
        waits_for(waiting.call, waiting.arguments[0])
    };
    tids.filter_map(waits).collect()
}

/// What is said of those that it may have made, and nobody has used.
fn perhaps_its_own(unused: &[&Listed]) -> Option<String> {
    let first = unused.first()?;
    let (name, more) = (name(first.kind, first.id, first.key), unused.len() - 1);
    let (which, has, stays) = match more {
        0 => (name, "has", "it stays"),
        n => (format!("{name}, and {n} more,"), "have", "they stay"),
    };
    Some(format!(
        "{which} {has} been made by its user since it began, and nobody has used {}: should the process want to, {stays} here",
        if more == 0 { "it" } else { "them" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_known_by_the_call() {
        assert_eq!(waits_for(libc::SYS_semtimedop as u64, 7), Some(Id::new(Kind::Semaphores, 7)));
        assert_eq!(waits_for(libc::SYS_msgrcv as u64, 7), Some(Id::new(Kind::Messages, 7)));
        assert_eq!(waits_for(libc::SYS_read as u64, 7), None);
    }

    #[test]
    fn who_began_later_has_done_nothing_before() {
        let own = std::process::id() as i32;
        assert!(lives(own, now()) && lives(own, i64::MAX));
        assert!(!lives(own, now() - 3600 * 24 * 365 * 40));
        assert!(!lives(1 << 30, i64::MAX));
    }
}
