//! The process that is to move, as /proc shows it while it runs: what it is, and everything about it that cannot move.
//! Touches nothing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use migrate_linux::pidfd::PidFd;
use migrate_linux::regs::{CallState, Registers};
use migrate_linux::thread_probe::ThreadRecord;

use super::kernel_state::Loading;
use super::open_files::{Findings, OpenFiles};
use super::sysv_ipc::SysvIpc;
use super::{shared_memory, terminals};
use crate::clocks::Offsets;
use crate::error::{Doing, Error, Result};
use crate::image::{EarlyThread, NeededFile};
use crate::memory::layout::{AddressSpace, Pace};
use crate::memory::numa;
use crate::plan::Options;
use crate::proc::fdinfo::read_fdinfo;
use crate::proc::is_gone;
use crate::proc::link::{LinkTarget, read_cwd, read_exe, read_root};
use crate::proc::listing::{name_of, read_children, read_fds, read_tids};
use crate::proc::process::{Process, has_ended};
use crate::proc::stat::{Stat, read_stat};
use crate::proc::status::{Status, read_status, read_task_status};
use crate::proc::timers::read_timers;
use crate::resources::FrozenThread;
use crate::resources::process::posix_timers;
use crate::resources::thread::wait_end::Ends;
use crate::resources::thread::{CredentialsImage, ThreadCalls, confinement};
use crate::vdso::Vdso;

/// The process to be moved.
#[derive(Debug)]
pub struct Subject {
    /// It, as this agent sees it.
    pub process: Process,
    /// Its name.
    name: Vec<u8>,
    /// `/proc/PID/status`, of the thread by which it is reached.
    pub status: Status,
    /// Its mappings.
    pub space: AddressSpace,
    /// Its executable.
    pub executable: Vec<u8>,
    /// Its working directory.
    pub working_directory: Vec<u8>,
    /// Its root.
    pub root: Vec<u8>,
    /// Its open files.
    pub files: OpenFiles,
    /// Its semaphores and message queues.
    pub sysv: SysvIpc,
    /// The files that must be at the destination.
    pub needed: Vec<NeededFile>,
    /// To reach its descriptors: of the same thread, if that is not the first one.
    pub pidfd: PidFd,
    /// This host's kernel, as long as it runs.
    pub boot_id: String,
    /// Source and destination are one machine, once that is known.
    pub one_machine: bool,
    /// Threads that this migration has interrupted already, in a call that goes on from restart_block, with the call's number: the
    /// registers no longer show it.
    pub interrupted: BTreeMap<i32, u64>,
    /// Its vDSO, once it has been offered.
    pub vdso: Option<Vdso>,
    /// The destination has another vDSO: no thread may be in the middle of this one.
    pub keep_out_of_vdso: bool,
    /// The destination can make POSIX timers whatever their IDs are.
    pub any_timer_id: bool,
    /// The destination can set the CPU time that it has used.
    pub sets_cpu_time: bool,
    /// Those of its time namespace.
    pub clocks: Offsets,
    /// What it loses by moving.
    pub losses: Vec<String>,
    /// The threads beside the first that it had in preflight, by their IDs in the innermost PID namespace.
    pub others: Vec<i32>,
    /// So many of the shared objects of its address space are known to be its own.
    searched_objects: usize,
    /// What tells of its threads at once, if that is wanted.
    pub probe: Loading,
    /// Waits that a stop has made begin anew.
    pub ends: Ends,
}

impl Subject {
    /// Its name for messages.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Its PID in its own PID namespace.
    pub fn pid_inside(&self) -> i32 {
        innermost(&self.status.ns_tgid, self.process.pid)
    }

    /// Code that no thread may be in the middle of when the process stands: the kernel's vDSO, and what it knows as such, if the
    /// destination has another.
    pub fn vdso_to_keep_out_of(&self) -> Vec<Range<u64>> {
        self.vdso.iter().filter(|_| self.keep_out_of_vdso).flat_map(|vdso| vdso.places(&self.space.layout)).collect()
    }

    /// Notes the call that a thread is in, which the stop that shows these registers has interrupted.
    pub fn interrupts(&mut self, tid: i32, regs: &Registers) {
        if regs.restarts_again() {
            return; // noted when it was interrupted first
        }
        match regs.call_state() {
            CallState::RestartBlock => self.interrupted.insert(tid, regs.orig_rax),
            _ => self.interrupted.remove(&tid),
        };
    }

    /// Reads its address space anew. Err names what has come up that cannot move.
    pub fn refresh_space(&mut self) -> Result<()> {
        refuse(self.space.read_quickly(self.process, Pace::Running)?)
    }

    /// The same with what madvise, mlock and mseal have done to mappings, which takes some 15 ms for each GiB.
    pub fn refresh_space_with_flags(&mut self) -> Result<()> {
        refuse(self.space.read_all(self.process)?)
    }

    /// Looks at its open files, and at what it shares, anew. What it has for a moment is no obstacle unless it is there in the end.
    pub fn refresh_holdings(&mut self) -> Result<Findings> {
        let mut findings = self.files.look(self.process, &self.pidfd)?;
        findings.obstacles.extend(self.files.find_content(&mut self.space.unnamed));
        findings.obstacles.extend(self.shared_memory()?);
        findings.obstacles.extend(self.sysv.look(self.process, self.status.uid[1])?.obstacles);
        self.is_reached()?;
        Ok(findings)
    }

    /// The same of its open files in the frozen process, of which it also reads what they are now.
    pub fn refresh_files_again(&mut self) -> Result<Findings> {
        let mut findings = self.files.look_again(self.process, &self.pidfd)?;
        findings.obstacles.extend(self.files.find_content(&mut self.space.unnamed));
        findings.obstacles.extend(self.shared_memory()?);
        Ok(findings)
    }

    /// Whether it has a file open for reading past the page cache (O_DIRECT).
    pub fn reads_directly(&self) -> Result<bool> {
        let Process { pid, alive } = self.process;
        let numbers = read_fds(alive).doing(|| format!("list the descriptors of {pid}"))?;
        // One that has been closed meanwhile is read no more.
        let direct = |number| read_fdinfo(alive, number).is_ok_and(|info| info.flags & nix::libc::O_DIRECT as u32 != 0);
        Ok(numbers.into_iter().any(direct))
    }

    /// Others may have its shared memory too, by now.
    pub fn search_again(&mut self) {
        self.searched_objects = 0;
    }

    /// Whether no other process has any of its shared memory.
    pub fn shares_nothing(&self) -> Result<bool> {
        Ok(shared_memory::held_by_others(self.process.pid, &self.space)?.is_empty())
    }

    /// The reasons that shared memory which came up since the last look is, if others have it too.
    pub fn shared_memory(&mut self) -> Result<Vec<String>> {
        let objects = self.space.unnamed.objects.len();
        if objects == self.searched_objects {
            return Ok(Vec::new());
        }
        let reasons = shared_memory::held_by_others(self.process.pid, &self.space)?;
        if reasons.is_empty() {
            self.searched_objects = objects;
        }
        Ok(reasons)
    }

    /// The threads beside the first that there are now. Err: they cannot be read.
    pub fn early_threads(&self) -> Result<Vec<EarlyThread>> {
        let threads = other_threads(self.process.pid)?;
        let early = |(tid, status): (i32, Status)| EarlyThread {
            tid,
            credentials: CredentialsImage::shown_by(&status),
            calls: None,
        };
        Ok(threads.into_iter().map(early).collect())
    }

    /// The same with what the probe tells of them. None: it is not loaded, or one has more supplementary groups than it tells.
    pub fn threads_ahead(&self) -> Option<Vec<EarlyThread>> {
        // Without it the threads are made complete in the freeze.
        let records = self.probe.get()?.read().ok()?;
        let others = records.iter().filter(|record| record.seen_tid != self.process.pid && record.exit_state == 0);
        let early = |record: &ThreadRecord| {
            let credentials = CredentialsImage::recorded(record)?;
            Some(EarlyThread { tid: record.tid, credentials, calls: ThreadCalls::recorded(record, None) })
        };
        others.map(early).collect()
    }

    /// Err: the thread by which it is reached has ended. The freeze will tell, too; but then it stands still for that.
    pub fn is_reached(&self) -> Result<()> {
        if self.process.is_lost() { Err(Error::Refused(vec![self.process.why_lost()])) } else { Ok(()) }
    }

    /// Err: the thread by which it is reached is not among those that stand now, so that what was seen by it is not to be relied on.
    pub fn is_still_reached(&self, threads: &[FrozenThread]) -> Result<()> {
        let stands = threads.iter().any(|thread| thread.stopped.tid() == self.process.alive);
        // The number may be another thread's by now; not that of the first one.
        match stands && !(self.process.first_has_ended() && self.pidfd.has_ended()) {
            true => Ok(()),
            false => Err(Error::Refused(vec![self.process.why_lost()])),
        }
    }

    /// Reads everything about it. The second part names all that cannot move. Err: there is no such process, or it is none that could.
    pub fn examine(pid: i32, options: &Options) -> Result<(Subject, Vec<String>)> {
        let gone = |e: std::io::Error| match is_gone(&e) {
            true => Error::Refused(vec![format!("there is no process {pid} on this host")]),
            false => Error::io(format!("read process {pid}"), e),
        };
        let mut status = read_status(pid).map_err(gone)?;
        let stat = read_stat(pid).map_err(gone)?;
        refuse(what_it_is(pid, &status, &stat))?;
        let mut pidfd = PidFd::open(pid).map_err(|e| match e.raw_os_error() {
            Some(nix::libc::EINVAL | nix::libc::ENOENT) => {
                Error::Refused(vec![format!("{pid} is a thread; give the PID of its process, {}", status.tgid)])
            }
            _ => gone(e),
        })?;
        let process = Process::of(pid).map_err(gone)?;
        let name = status.name.clone();
        if process.first_has_ended() {
            pidfd = process.open().map_err(|e| match e.raw_os_error() {
                Some(nix::libc::EINVAL) => Error::Refused(vec![
                    "its first thread has ended while others go on: to take its descriptors from one of these, this host needs Linux 6.9 (PIDFD_THREAD)"
                        .into(),
                ]),
                _ => gone(e),
            })?;
            status = read_status(process.alive).map_err(gone)?;
        }
        let mut obstacles = relations(process, &status)?;
        obstacles.extend(word_size(process.alive));
        let mut sysv = SysvIpc::default();
        let found = sysv.look(process, status.uid[1])?;
        obstacles.extend(found.obstacles);
        let others = other_threads(pid)?;
        obstacles.extend(reasons_of(process, &others));
        let mut losses = found.losses;
        if others.iter().map(|(_, status)| status).chain([&status]).any(|status| status.seccomp.unwrap_or(0) != 0) {
            losses.push(confinement::RISK.into());
        }
        let mut space = AddressSpace::default();
        obstacles.extend(space.read_all(process)?);
        let alive = process.alive;
        losses.extend(numa::losses(alive));
        let links = [
            ("executable", read_exe(alive)),
            ("working directory", read_cwd(alive)),
            ("root directory", read_root(alive)),
        ];
        let mut paths = Vec::new();
        for (what, link) in links {
            paths.push(match link {
                Ok(LinkTarget::Path { path, deleted: false }) => path.into_encoded_bytes(),
                Ok(_) => {
                    obstacles.push(format!("its {what} has been deleted; restart it with one that is there"));
                    Vec::new()
                }
                Err(e) => return Err(Error::io(format!("read the {what} of {pid}"), e)),
            });
        }
        let mut files = OpenFiles::new(options, (status.uid[1], status.gid[1]));
        let findings = files.look(process, &pidfd)?;
        obstacles.extend(findings.obstacles);
        losses.extend(findings.losses);
        if stat.tty_nr != 0 && !terminals::has_terminal(&files.list, stat.tty_nr) {
            losses.push("it leaves its controlling terminal behind".into());
        }
        obstacles.extend(files.find_content(&mut space.unnamed));
        obstacles.extend(shared_memory::held_by_others(pid, &space)?);
        let searched_objects = space.unnamed.objects.len();
        let mut paths = paths.into_iter();
        let mut path = || paths.next().unwrap_or_default();
        let subject = Subject {
            process,
            name,
            status,
            space,
            executable: path(),
            working_directory: path(),
            root: path(),
            files,
            sysv,
            needed: Vec::new(),
            vdso: None,
            keep_out_of_vdso: false,
            any_timer_id: true,
            sets_cpu_time: false,
            one_machine: false,
            interrupted: BTreeMap::new(),
            boot_id: boot_id(),
            pidfd,
            clocks: Offsets::of(alive)?,
            losses,
            others: others.into_iter().map(|(tid, _)| tid).collect(),
            searched_objects,
            probe: Loading::none(),
            ends: Ends::default(),
        };
        Ok((subject, obstacles))
    }
}

/// What identifies this kernel from its boot to its end; empty: unknown.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The number in the innermost PID namespace.
pub fn innermost(numbers: &[i32], otherwise: i32) -> i32 {
    numbers.last().copied().unwrap_or(otherwise)
}

/// The threads beside the first: the ID in the innermost PID namespace, and the status. Err: they cannot be read.
pub fn other_threads(pid: i32) -> Result<Vec<(i32, Status)>> {
    let mut threads = Vec::new();
    for tid in read_tids(pid).doing(|| format!("list the threads of {pid}"))?.into_iter().filter(|tid| *tid != pid) {
        match read_task_status(pid, tid) {
            Ok(status) => threads.push((innermost(&status.ns_pid, tid), status)),
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(Error::io(format!("read thread {tid}"), e)),
        }
    }
    Ok(threads)
}

/// Err unless there are none.
pub fn refuse(obstacles: Vec<String>) -> Result<()> {
    if obstacles.is_empty() { Ok(()) } else { Err(Error::Refused(obstacles)) }
}

/// Reasons in the process itself.
fn what_it_is(pid: i32, status: &Status, stat: &Stat) -> Vec<String> {
    let name = String::from_utf8_lossy(&status.name);
    let mut reasons = Vec::new();
    if stat.is_kernel_thread() || status.kthread == Some(true) {
        reasons.push(format!("{pid} ({name}) is a kernel thread: it is a part of this host's kernel and cannot move"));
        return reasons;
    }
    if status.tgid != pid {
        reasons.push(format!("{pid} is a thread; give the PID of its process, {}", status.tgid));
    }
    if pid == std::process::id() as i32 {
        reasons.push(format!("{pid} is this program itself"));
    }
    match status.state {
        // Others may go on.
        b'Z' | b'X' if has_ended(stat) => reasons.push(format!("{pid} ({name}) has ended")),
        _ => {}
    }
    reasons.extend(traced(status, format_args!("{pid} ({name})")));
    if status.core_dumping == Some(true) {
        reasons.push(format!("{pid} ({name}) is dumping core"));
    }
    reasons
}

fn traced(status: &Status, who: impl std::fmt::Display) -> Option<String> {
    let tracer = Some(status.tracer_pid).filter(|tracer| *tracer != 0)?;
    Some(format!("{who} is traced by {tracer} ({}); end that first", name_of(tracer)))
}

/// Reasons in the threads beside the first, by their IDs in the innermost PID namespace.
fn reasons_of(process: Process, others: &[(i32, Status)]) -> Vec<String> {
    let Process { pid, alive } = process;
    let mut reasons: Vec<String> =
        others.iter().filter_map(|(tid, status)| traced(status, format_args!("thread {tid} of {pid}"))).collect();
    // Many are told of by the probe; see `crate::resources::thread::unmovable`.
    const FEW: usize = 16;
    for (_, status) in others.iter().take(FEW) {
        let tid = status.pid;
        let of = |task: i32, kind: &str| fs::read_link(format!("/proc/{pid}/task/{task}/ns/{kind}")).ok();
        // One that has ended meanwhile has none.
        let apart = |kind: &&&str| of(tid, kind).is_some_and(|its| of(alive, kind).is_some_and(|first| its != first));
        if let Some(kind) = ["mnt", "net", "ipc", "uts", "cgroup"].iter().find(apart) {
            reasons.push(format!(
                "thread {tid} is in another {kind} namespace than the first thread; that cannot move yet"
            ));
        }
    }
    reasons
}

/// The reason that its children are, if it has any.
pub fn children_of(pid: i32) -> Result<Vec<String>> {
    let children = read_children(pid).doing(|| format!("read the children of {pid}"))?;
    let mut reasons = Vec::new();
    if let Some(first) = children.first() {
        reasons.push(format!(
            "it has {} child process{} ({first} {}{}); families cannot move yet: wait until they have ended",
            children.len(),
            if children.len() == 1 { "" } else { "es" },
            name_of(*first),
            if children.len() == 1 { "" } else { ", …" }
        ));
    }
    Ok(reasons)
}

/// Reasons in what ties it to others.
fn relations(process: Process, status: &Status) -> Result<Vec<String>> {
    let mut reasons = children_of(process.pid)?;
    reasons.extend(timers(process.pid, status)?);
    let alive = process.alive;
    for (kind, name) in
        [("mnt", "mount"), ("net", "network"), ("ipc", "IPC"), ("uts", "UTS"), ("user", "user"), ("cgroup", "cgroup")]
    {
        let its = fs::read_link(format!("/proc/{alive}/ns/{kind}"));
        let ours = fs::read_link(format!("/proc/self/ns/{kind}"));
        if let (Ok(its), Ok(ours)) = (its, ours)
            && its != ours
        {
            reasons.push(format!("it lives in another {name} namespace than the agent; containers cannot move yet"));
        }
    }
    let time = |name| fs::read_link(format!("/proc/{alive}/ns/{name}")).ok();
    if time("time") != time("time_for_children") {
        reasons.push(
            "its children would live in another time namespace than it does (unshare); that cannot move yet".into(),
        );
    }
    Ok(reasons)
}

/// The reasons that its POSIX timers are.
fn timers(pid: i32, status: &Status) -> Result<Vec<String>> {
    let timers = read_timers(pid).doing(|| format!("read the timers of {pid}"))?;
    if timers.is_empty() {
        return Ok(Vec::new());
    }
    let inside = innermost(&status.ns_tgid, pid);
    let mut tids = vec![inside];
    tids.extend(other_threads(pid)?.into_iter().map(|(tid, _)| tid));
    Ok(posix_timers::obstacles(&timers, inside, &tids))
}

/// The reason that it is no 64-bit program, if it is none: by the header of its executable (elf(5)).
fn word_size(alive: i32) -> Option<String> {
    use std::io::Read;
    let mut header = [0; 20];
    fs::File::open(format!("/proc/{alive}/exe")).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    program_of_32_bits(&header)
        .map(|kind| format!("it is a 32-bit program ({kind}); those cannot move: use a 64-bit one"))
}

fn program_of_32_bits(header: &[u8; 20]) -> Option<&'static str> {
    const CLASS_32: u8 = 1;
    const X86_64: u8 = 62;
    match *header {
        [0x7f, b'E', b'L', b'F', CLASS_32, .., X86_64, 0] => Some("x32"),
        [0x7f, b'E', b'L', b'F', CLASS_32, ..] => Some("i386"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_32_bits_are_known_by_their_header() {
        let header = |class: u8, machine: u8| {
            let mut header = [0; 20];
            header[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
            header[18] = machine;
            header
        };
        assert_eq!(program_of_32_bits(&header(2, 62)), None);
        assert_eq!(program_of_32_bits(&header(1, 62)), Some("x32"));
        assert_eq!(program_of_32_bits(&header(1, 3)), Some("i386"));
        assert_eq!(program_of_32_bits(&[b'#'; 20]), None);
    }
}
