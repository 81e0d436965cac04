//! Pseudo terminals of a process: both ends of each must be its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::open_files::SharedFile;
use super::outside_ends::moving;
use crate::error::{Doing, Result};
use crate::proc::fdinfo::read_fdinfo;
use crate::proc::listing::{for_each_fd_of_others, name_of};
use crate::resources::file::{listed, or_instead, terminal_of};

/// Those of which it is known that no other process has an end, by their numbers.
#[derive(Debug, Default)]
pub struct Terminals {
    private: BTreeSet<u32>,
}

/// An end that another process has.
struct OutsideEnd {
    /// The terminal is /dev/pts/N.
    terminal: u32,
    is_master: bool,
    /// Who has it, and as which descriptors, in words.
    holder: String,
}

impl Terminals {
    /// Why those cannot move that others have ends of, in words.
    pub fn look(&mut self, pid: i32, list: &[SharedFile]) -> Result<Vec<String>> {
        let mut unknown: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
        let mut masters = BTreeSet::new();
        for (shared, (terminal, is_master)) in ends(list) {
            unknown.entry(terminal).or_default().extend(&shared.numbers);
            masters.extend(is_master.then_some(terminal));
        }
        self.private.retain(|terminal| masters.contains(terminal) && unknown.remove(terminal).is_some());
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let others = outside_ends(pid, &unknown)?;
        let mut reasons = Vec::new();
        for (terminal, ours) in unknown {
            let has_master = masters.contains(&terminal);
            let end = others.iter().find(|end| end.terminal == terminal && (end.is_master || has_master));
            let why = match end {
                Some(end) if end.is_master => format!("whose master {} and stays", end.holder),
                Some(end) => format!("whose slave {} and stays", end.holder),
                None if has_master => {
                    self.private.insert(terminal);
                    continue;
                }
                None => "whose master no process has that is to be seen here".into(),
            };
            reasons.push(format!(
                "fd {}: the terminal /dev/pts/{terminal}, {why}; {}",
                listed(&ours),
                or_instead(&ours)
            ));
        }
        Ok(reasons)
    }
}

/// The ends that move: the terminal of each, and whether it is its master.
fn ends(list: &[SharedFile]) -> impl Iterator<Item = (&SharedFile, (u32, bool))> {
    moving(list).filter_map(|shared| terminal_of(&shared.file).map(|end| (shared, end)))
}

/// Whether this terminal (tty_nr of proc_pid_stat(5)) moves with them.
pub fn has_terminal(list: &[SharedFile], device: i32) -> bool {
    // The kernel's form of a device number with 12 bits of major and 20 of minor (linux/kdev_t.h `new_encode_dev`).
    let device_of = |number: u32| i64::from(number & 0xff | 136 << 8 | (number & !0xff) << 12);
    ends(list).any(|(_, (number, is_master))| is_master && i64::from(device) == device_of(number))
}

fn outside_ends(pid: i32, wanted: &BTreeMap<u32, Vec<i32>>) -> Result<Vec<OutsideEnd>> {
    let device = |path: &std::path::Path| fs::metadata(path).map(|found| found.dev());
    let ours = device("/dev/pts".as_ref()).doing(|| "look at /dev/pts".into())?;
    let mut holders: BTreeMap<(u32, bool, i32), Vec<i32>> = BTreeMap::new();
    let looked = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { return };
        let end = match link.strip_prefix(b"/dev/pts/") {
            None if link != b"/dev/ptmx" => None,
            // Each instance of devpts has masters of its own, and numbers.
            Some(_) if !device(&entry.path()).is_ok_and(|theirs| theirs == ours) => None,
            None | Some(b"ptmx") => {
                let info = read_fdinfo(other.alive, number).ok();
                let index = info.and_then(|info| std::str::from_utf8(info.extra("tty-index")?).ok()?.parse().ok());
                index.map(|index| (index, true))
            }
            Some(name) => std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).map(|index| (index, false)),
        };
        if let Some((terminal, is_master)) = end.filter(|(terminal, _)| wanted.contains_key(terminal)) {
            holders.entry((terminal, is_master, other.pid)).or_default().push(number);
        }
    });
    looked.doing(|| "list the processes".into())?;
    let end = |((terminal, is_master, other), theirs): ((u32, bool, i32), Vec<i32>)| {
        let holder = format!("process {other} ({}) has as fd {}", name_of(other), listed(&theirs));
        OutsideEnd { terminal, is_master, holder }
    };
    Ok(holders.into_iter().map(end).collect())
}
