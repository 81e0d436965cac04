//! Preflight: both sides are asked whether the move can work. Nothing has been changed afterwards, neither here nor there.

use std::collections::BTreeMap;
use std::path::Path;

use migrate_linux::cpu::CpuFeatures;
use nix::libc::{O_ACCMODE, O_RDONLY};

use super::peer::Peer;
use super::pre_copy::Ready;
use super::record::Record;
use super::subject::{Subject, innermost, refuse};
use super::undo::UndoList;
use crate::clocks::{Difference, HostClocks};
use crate::error::{Doing, Error, Result};
use crate::identity::{Depth, DigestCache, FileIdentity, read_identity};
use crate::image::{NeededFile, Offer};
use crate::phase::Phase;
use crate::plan::{ClockChoice, Options, Plan};
use crate::proc::timers::read_timers;
use crate::protocol::message::{ToDestination, ToSource};
use crate::resources::file;
use crate::resources::process::{file_locks, posix_timers};
use crate::resources::thread::scheduling::Defaults;
use crate::vdso::Vdso;

/// Examines the process, offers it to the destination, and has it accepted.
pub fn preflight<'r, 'o>(plan: Plan, record: &'r mut Record<'o>) -> Result<Ready<'r, 'o>> {
    record.enter(Phase::Preflight);
    let (mut subject, obstacles) = examine(plan.pid, &plan.options)?;
    record.name = subject.name();
    record.pages.not_needed = subject.space.file_pages;
    refuse(obstacles)?;
    for loss in &subject.losses {
        record.warn(loss.clone());
    }
    let Agreed { peer, warnings, clocks } = propose(&plan, &mut subject)?;
    warnings.into_iter().for_each(|w| record.warn(w));
    let clocks = match (clocks, plan.options.clock) {
        (None, _) => None,
        (Some(Difference { needed, .. }), ClockChoice::Continue) => {
            record.clock = "continued";
            Some(needed)
        }
        (Some(Difference { jump, .. }), ClockChoice::Host) => {
            record.clock = "host";
            let seconds = jump as f64 / 1e9;
            record.warn(format!("its CLOCK_MONOTONIC jumps by {seconds:+.3} s: what waits for a moment of it wakes up too early or too late"));
            None
        }
    };
    let mut undo = UndoList::new(record.not_undone.clone());
    undo.held.peer = Some(peer);
    Ok(Ready { plan, record, undo, subject, clocks })
}

/// Reads everything about a process, and what of it cannot move.
pub(super) fn examine(pid: i32, options: &Options) -> Result<(Subject, Vec<String>)> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Refused(vec!["moving a process needs root: run this with sudo".into()]));
    }
    crate::destination::raise_descriptor_limit();
    Subject::examine(pid, options)
}

/// A destination that would take it.
pub(super) struct Agreed {
    pub peer: Peer,
    pub warnings: Vec<String>,
    /// How its clocks differ there.
    pub clocks: Option<Difference>,
}

/// Offers it to the destination. Ok: it is accepted; nothing has been made there.
pub(super) fn propose(plan: &Plan, subject: &mut Subject) -> Result<Agreed> {
    let mut cache = DigestCache::new();
    subject.needed = needed_files(subject, &mut cache)?;
    subject.vdso = Vdso::of(subject.process, &subject.space.layout)?;
    let (offer, warning) = offer(plan, subject)?;
    let mut peer = Peer::connect(&plan.host, plan.pid)?;
    // For whoever logs what this thread does: both hosts' lines about it name it then.
    tracing::Span::current().record("id", tracing::field::display(peer.id));
    peer.send(&ToDestination::Offer(Box::new(offer)))?;
    let mut answer = peer.receive()?;
    if let ToSource::ContentNeeded(indices) = &answer {
        let mut content = Vec::new();
        for index in indices {
            let file = subject
                .needed
                .get(*index as usize)
                .ok_or_else(|| Error::Invalid("the destination asks for a file that was not offered".into()))?;
            content.push(identity(&file.identity.path, Depth::Content, &mut cache)?);
        }
        peer.send(&ToDestination::Content(content))?;
        answer = peer.receive()?;
    }
    let accepted = match answer {
        ToSource::Accepted(accepted) => accepted,
        other => return Err(peer.unexpected(&other)),
    };
    subject.keep_out_of_vdso = accepted.other_vdso;
    subject.any_timer_id = accepted.any_timer_id;
    subject.sets_cpu_time = accepted.sets_cpu_time;
    if !subject.any_timer_id {
        let timers = read_timers(subject.process.pid).doing(|| format!("read the timers of {}", subject.process))?;
        refuse(posix_timers::too_high(&timers).into_iter().collect())?;
    }
    subject.one_machine = !subject.boot_id.is_empty() && subject.boot_id == accepted.clocks.boot_id;
    refuse(subject.files.lease_obstacles(subject.one_machine))?;
    let clocks = HostClocks::now()?.difference(subject.clocks, &accepted.clocks);
    Ok(Agreed { peer, warnings: warning.into_iter().chain(accepted.warnings).collect(), clocks })
}

fn identity(path: &[u8], depth: Depth, cache: &mut DigestCache) -> Result<FileIdentity> {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    read_identity(path, depth, cache).doing(|| format!("look at {}", path.display()))
}

/// Every file that must be at the destination: executable, mapped files, open files, directories.
fn needed_files(subject: &Subject, cache: &mut DigestCache) -> Result<Vec<NeededFile>> {
    let mut written: BTreeMap<&[u8], bool> = BTreeMap::new();
    let always = [&subject.executable, &subject.working_directory, &subject.root].map(|path| (path.as_slice(), false));
    let mapped = subject.space.layout.files.iter().map(|f| (f.path.as_slice(), f.writable));
    let open = subject.files.list.iter().filter(|f| f.moves()).filter_map(|f| {
        let view = &f.file.view;
        let writes = view.status_flags() & O_ACCMODE != O_RDONLY;
        // Nor may one with a lease for writing be opened to read its content.
        Some((file::needs(view)?.as_encoded_bytes(), writes || file_locks::lease(&view.info) == Some(true)))
    });
    for (path, writes) in always.into_iter().chain(mapped).chain(open) {
        *written.entry(path).or_default() |= writes;
    }
    let identify = |(path, written)| Ok(NeededFile { identity: identity(path, Depth::Stat, cache)?, written });
    written.into_iter().map(identify).collect()
}

fn offer(plan: &Plan, subject: &Subject) -> Result<(Offer, Option<String>)> {
    let pid = subject.pid_inside();
    let mut tids = vec![pid];
    tids.extend(&subject.others);
    let (mut group, mut session) = (innermost(&subject.status.ns_pgid, 0), innermost(&subject.status.ns_sid, 0));
    let mut warning = None;
    if session == 0 || group == 0 {
        // The numbers do not exist in its own PID namespace.
        (group, session) = (pid, pid);
        warning = Some("its session began outside its PID namespace; it gets a session of its own".to_string());
    }
    let offer = Offer {
        name: subject.name(),
        pid,
        group,
        session,
        tids,
        pid_policy: plan.options.pid,
        memory: (subject.status.vm_rss.unwrap_or(0) + subject.status.vm_swap.unwrap_or(0)) * 1024,
        files: subject.needed.clone(),
        cpu: CpuFeatures::of_this_cpu().into(),
        ignore_cpu: plan.options.ignore_cpu,
        scheduling: Defaults::of_this_host(),
        addresses: subject.files.addresses()?,
        vdso: subject.vdso.clone(),
        uid: subject.status.uid[1],
        boot_id: subject.boot_id.clone(),
        sysv: subject.sysv.announced()?,
    };
    Ok((offer, warning))
}
