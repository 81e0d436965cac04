//! Whether an offer can be accepted: numbers, files, memory, CPU, vDSO, addresses and ports. Nothing is made to stay.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use migrate_linux::cpu::CpuFeatures;

use super::sysv_ipc;
use super::vdso::KernelVdso;
use crate::clocks::HostClocks;
use crate::error::{Doing, Error, Result};
use crate::identity::{Depth, Difference, DigestCache, FileIdentity, Kind, compare, needs_content, read_identity};
use crate::image::{NeededFile, Offer};
use crate::phases::fifos::holders;
use crate::plan::PidPolicy;
use crate::proc::listing::name_of;
use crate::protocol::message::Accepted;
use crate::resources::file::listed;
use crate::resources::process::{cpu_time, posix_timers};

/// Checks an offer. Ok: accepted but for the files, by number, whose content must be compared.
pub fn check(offer: &Offer) -> Result<(Accepted, Vec<u32>)> {
    if offer.tids.first() != Some(&offer.pid) || offer.tids.iter().any(|t| *t <= 0) {
        return Err(Error::Invalid("the offer's numbers make no sense".into()));
    }
    let mut reasons = Vec::new();
    let mut undecided = Vec::new();
    for (i, file) in offer.files.iter().enumerate() {
        match check_file(file) {
            Ok(true) => {}
            Ok(false) => undecided.push(i as u32),
            Err(why) => reasons.push(why),
        }
    }
    reasons.extend(check_fifos(offer)?);
    let cpu = check_cpu(offer);
    let warnings = cpu.as_ref().ok().cloned().flatten().into_iter().collect();
    reasons.extend(cpu.err());
    let vdso = check_vdso(offer)?;
    let other_vdso = *vdso.as_ref().unwrap_or(&false);
    reasons.extend(vdso.err());
    reasons.extend(check_memory(offer)?);
    reasons.extend(sysv_ipc::obstacles(offer));
    reasons.extend(offer.addresses.iter().filter_map(|socket| socket.check().err()));
    let (pid_namespace, reason) = check_numbers(offer);
    reasons.extend(reason);
    match reasons.is_empty() {
        true => {
            let (any_timer_id, sets_cpu_time) = (posix_timers::any_id_can_be_made(), cpu_time::can_be_set());
            let clocks = HostClocks::now()?;
            let accepted = Accepted { pid_namespace, other_vdso, any_timer_id, sets_cpu_time, clocks, warnings };
            Ok((accepted, undecided))
        }
        false => Err(Error::Refused(reasons)),
    }
}

/// Compares the content of files whose times differ.
pub fn check_content(offer: &Offer, undecided: &[u32], content: &[FileIdentity]) -> Result<()> {
    let mut cache = DigestCache::new();
    let mut reasons = Vec::new();
    if content.len() != undecided.len() {
        return Err(Error::Invalid("the content of other files than asked for".into()));
    }
    for (index, theirs) in undecided.iter().zip(content) {
        let offered = offer.files.get(*index as usize).map(|f| &f.identity.path);
        if offered != Some(&theirs.path) {
            return Err(Error::Invalid("the content of another file than asked for".into()));
        }
        let path = Path::new(OsStr::from_bytes(&theirs.path));
        let ours = read_identity(path, Depth::Content, &mut cache).doing(|| format!("read {}", path.display()))?;
        if let Err(difference) = compare(theirs, &ours) {
            reasons.push(difference_of(path, theirs.kind, &difference));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(Error::Refused(reasons)) }
}

/// Ok(false): content must be compared.
fn check_file(needed: &NeededFile) -> std::result::Result<bool, String> {
    let theirs = &needed.identity;
    let path = Path::new(OsStr::from_bytes(&theirs.path));
    let ours =
        read_identity(path, Depth::Stat, &mut DigestCache::new()).map_err(|e| format!("{}: {e}", path.display()))?;
    if needed.written && theirs.kind == ours.kind && ours.kind != Kind::Missing {
        return Ok(true);
    }
    if needs_content(theirs, &ours) {
        return Ok(false);
    }
    compare(theirs, &ours).map(|()| true).map_err(|difference| difference_of(path, theirs.kind, &difference))
}

fn difference_of(path: &Path, kind: Kind, difference: &Difference) -> String {
    let remedy = match kind {
        Kind::NamedPipe => "make it there (mkfifo)",
        _ => "install the same version on both hosts",
    };
    format!("{} {difference}; {remedy}, or share the file system", path.display())
}

/// FIFOs that a process here has open: it would get what is for the process that comes, and the other way round. On one kernel they may be
/// the FIFO of that process itself.
fn check_fifos(offer: &Offer) -> Result<Vec<String>> {
    let fifos = offer.files.iter().filter(|file| file.identity.kind == Kind::NamedPipe);
    let paths = fifos.map(|file| Path::new(OsStr::from_bytes(&file.identity.path)));
    let wanted: Vec<_> = paths.filter_map(|path| Some((path, fs::metadata(path).ok()?))).collect();
    if wanted.is_empty() || offer.boot_id == crate::phases::boot_id() {
        return Ok(Vec::new());
    }
    let path_of = |(device, inode)| wanted.iter().find(|(_, file)| (file.dev(), file.ino()) == (device, inode));
    let holders = holders(&[], |inode| path_of(inode).is_some())?;
    let reason = |((inode, other), fds): ((_, i32), Vec<i32>)| {
        Some(format!(
            "process {other} ({}) has the FIFO {} open on the destination, as fd {}; end that, or have the program use another one",
            name_of(other),
            path_of(inode)?.0.display(),
            listed(&fds)
        ))
    };
    Ok(holders.into_iter().filter_map(reason).collect())
}

/// What the CPU here lacks. Ok: it is to move all the same, with a warning.
fn check_cpu(offer: &Offer) -> std::result::Result<Option<String>, String> {
    let missing = offer.cpu.features().missing_in(&CpuFeatures::of_this_cpu()).join(", ");
    match (missing.is_empty(), offer.ignore_cpu) {
        (true, _) => Ok(None),
        (false, true) => {
            Ok(Some(format!("the CPU there lacks {missing}: the program fails if it uses that (--ignore-cpu)")))
        }
        (false, false) => Err(format!(
            "the CPU here lacks {missing}, which the program may be using; move it to a host with the same CPU or a newer one, or use --ignore-cpu if it does not"
        )),
    }
}

/// Whether the kernels' vDSOs differ; or why that cannot be dealt with.
fn check_vdso(offer: &Offer) -> Result<std::result::Result<bool, String>> {
    let Some(theirs) = &offer.vdso else { return Ok(Ok(false)) };
    let ours = KernelVdso::of_this_host()?;
    if ours.digest == theirs.digest {
        return Ok(Ok(false));
    }
    let possible = theirs.put_before(&ours.code, 0).map(|_| true);
    Ok(possible.map_err(|why| {
        format!("the kernels' vDSOs differ, and {why}; that cannot move: use the same kernel on both hosts")
    }))
}

fn check_memory(offer: &Offer) -> Result<Option<String>> {
    let info = fs::read_to_string("/proc/meminfo").doing(|| "read /proc/meminfo".into())?;
    let available = info
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let available = available.unwrap_or(u64::MAX / 1024).saturating_mul(1024);
    Ok((offer.memory > available).then(|| {
        format!(
            "it needs {} MiB of memory, and {} MiB are free here; free some, or choose another host",
            offer.memory >> 20,
            available >> 20
        )
    }))
}

/// Whether it needs a PID namespace of its own, or why its numbers cannot be had.
fn check_numbers(offer: &Offer) -> (bool, Option<String>) {
    if offer.pid_policy == PidPolicy::Namespace {
        return (true, None);
    }
    let mut numbers = offer.tids.clone();
    numbers.extend([offer.group, offer.session]);
    let taken = numbers.into_iter().find_map(|n| Some((n, who_has(n)?)));
    match taken {
        None => (false, None),
        Some(_) if offer.pid_policy == PidPolicy::Auto => (true, None),
        Some((number, who)) => {
            let role = if number == offer.pid {
                "PID"
            } else if offer.tids.contains(&number) {
                "thread ID"
            } else {
                "session or process group"
            };
            (
                false,
                Some(format!(
                    "{role} {number} is taken here by {who}; use --pid namespace, or wait until it has ended"
                )),
            )
        }
    }
}

fn who_has(number: i32) -> Option<String> {
    let status = crate::proc::status::read_status(number).ok()?;
    let name = String::from_utf8_lossy(&status.name).into_owned();
    Some(match status.tgid == number {
        true => format!("{name}{}", if status.state == b'Z' { " (a zombie)" } else { "" }),
        false => format!("a thread of {} ({name})", status.tgid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            name: "program".into(),
            // Above what any kernel gives.
            pid: 1 << 23,
            group: 1 << 23,
            session: 1 << 23,
            tids: vec![1 << 23],
            pid_policy: PidPolicy::Keep,
            memory: 1 << 20,
            files: Vec::new(),
            scheduling: Default::default(),
            cpu: CpuFeatures::of_this_cpu().into(),
            ignore_cpu: false,
            addresses: Vec::new(),
            vdso: None,
            uid: 0,
            boot_id: String::new(),
            sysv: Default::default(),
        }
    }

    fn refusal(offer: &Offer) -> String {
        check(offer).expect_err("refused").to_string()
    }

    #[test]
    fn what_fits_is_accepted() {
        let (accepted, undecided) = check(&offer()).expect("accepted");
        assert!(!accepted.pid_namespace && undecided.is_empty());
    }

    #[test]
    fn too_much_memory_is_refused_with_both_figures() {
        let why = refusal(&Offer { memory: 1 << 50, ..offer() });
        assert!(why.contains("it needs 1073741824 MiB of memory") && why.contains("are free here"), "{why}");
    }

    #[test]
    fn a_missing_cpu_feature_is_refused_by_name() {
        let mut offer = offer();
        offer.cpu.words.iter_mut().for_each(|word| *word = u32::MAX);
        let names = offer.cpu.features().missing_in(&CpuFeatures::of_this_cpu());
        let name = names.first().expect("no CPU has everything");
        let why = refusal(&offer);
        assert!(why.contains("the CPU here lacks") && why.contains(name) && why.contains("--ignore-cpu"), "{why}");
        offer.ignore_cpu = true;
        let (accepted, _) = check(&offer).expect("accepted");
        assert!(accepted.warnings.iter().any(|w| w.contains(name)), "{:?}", accepted.warnings);
    }

    #[test]
    fn a_taken_pid_is_refused_or_gets_a_namespace() {
        let own = std::process::id() as i32;
        let taken = Offer { pid: own, tids: vec![own], ..offer() };
        let why = refusal(&taken);
        assert!(why.contains(&format!("PID {own} is taken here by")) && why.contains("--pid namespace"), "{why}");
        let (accepted, _) = check(&Offer { pid_policy: PidPolicy::Auto, ..taken }).expect("accepted");
        assert!(accepted.pid_namespace);
    }

    #[test]
    fn a_missing_file_is_refused_by_name() {
        let identity = FileIdentity {
            path: b"/nowhere/libfoo.so.1".to_vec(),
            kind: Kind::Regular,
            size: 1,
            mtime_ns: 0,
            build_id: None,
            digest: None,
        };
        let why = refusal(&Offer { files: vec![NeededFile { identity, written: false }], ..offer() });
        assert!(why.contains("/nowhere/libfoo.so.1 is missing there"), "{why}");
    }

    #[test]
    fn a_fifo_that_is_open_here_is_refused_with_who_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let identity = read_identity(&path, Depth::Stat, &mut DigestCache::new()).expect("what it is");
        let offer = Offer { files: vec![NeededFile { identity, written: true }], ..offer() };
        check(&offer).expect("accepted");
        let open = fs::File::options().read(true).write(true).open(&path).expect("it opened");
        let why = refusal(&offer);
        assert!(why.contains("/fifo open on the destination, as fd ") && why.contains("process "), "{why}");
        check(&Offer { boot_id: crate::phases::boot_id(), ..offer.clone() }).expect("it may be its own");
        drop(open);
        fs::remove_file(&path).expect("removed");
        assert!(refusal(&offer).contains("/fifo is missing there; make it there (mkfifo)"));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        refusal(&Offer { tids: vec![], ..offer() });
        refusal(&Offer { tids: vec![1 << 23, -1], ..offer() });
    }
}
