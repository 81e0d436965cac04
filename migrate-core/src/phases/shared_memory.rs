//! Memory that a process shares with others: it would be cut in two.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::error::{Doing, Result};
use crate::memory::layout::AddressSpace;
use crate::memory::posix_shm;
use crate::proc::listing::{for_each_fd_of_others, name_of, read_pids};
use crate::proc::maps::{Mapping, read_maps};
use crate::proc::process::Process;

/// The reasons that its shared objects are, if another process has mapped or open one of them too.
pub fn held_by_others(pid: i32, space: &AddressSpace) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    if space.unnamed.objects.is_empty() {
        return Ok(reasons);
    }
    for other in read_pids().doing(|| "list the processes".into())? {
        // Processes come and go while this looks; one that is gone holds nothing.
        let Ok((alive, maps)) = read_maps_of(other) else { continue };
        if other != pid
            && let Some(shared) = maps.iter().find(|m| space.shares(alive, m))
        {
            reasons.push(format!(
                "it shares memory with process {other} ({}), which has it at {:x}-{:x} and stays; they cannot be parted",
                name_of(other),
                shared.start,
                shared.end
            ));
        }
    }
    reasons.extend(unnamed_held_by_others(pid, space)?);
    Ok(reasons)
}

/// Those of a process, and a thread by which they are reached: its first one may have ended.
fn read_maps_of(pid: i32) -> io::Result<(i32, Vec<Mapping>)> {
    let maps = read_maps(pid)?;
    let without_first = if maps.is_empty() { Process::without_first(pid) } else { None };
    without_first.map_or(Ok((pid, maps)), |process| Ok((process.alive, read_maps(process.alive)?)))
}

/// What is open or mapped shared can also be written through descriptors of others.
fn unnamed_held_by_others(pid: i32, space: &AddressSpace) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    let shared = space.unnamed_and_held();
    if shared.is_empty() {
        return Ok(reasons);
    }
    let listed = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        let unnamed = link.ends_with(b" (deleted)") || posix_shm::may_be_one(link);
        if unnamed && fs::metadata(entry.path()).is_ok_and(|m| shared.contains(&(m.dev(), m.ino()))) {
            reasons.push(format!(
                "{}, which it has open or mapped, is descriptor {} of process {other} ({}), which stays; they cannot be parted: let one of them close it",
                String::from_utf8_lossy(link),
                entry.file_name().display(),
                name_of(other.pid)
            ));
        }
    });
    listed.doing(|| "list the processes".into())?;
    Ok(reasons)
}
