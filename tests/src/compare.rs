//! What differs between two snapshots of a process and should not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::areas::Area;
use crate::snapshot::{Fields, Snapshot};

/// Whether a field of a process, a thread or a descriptor may change, and why.
fn may_change(name: &str, before: &str, after: &str) -> bool {
    match name {
        // Room in the descriptor table; it grows in steps and never shrinks, so a new process may have less.
        "FDSize" => true,
        // The scheduler's present idea of a thread under SCHED_OTHER, from which nice (compared by itself) is the lasting part.
        "priority" => true,
        // The host's default (a mitigation applies or not), as long as the process has not set it itself.
        "Speculation_Store_Bypass" | "SpeculationIndirectBranch" => {
            !before.contains("force") && !after.contains("force")
        }
        // What is left of a timer's time; 0 says that it is not set.
        "it_value" => (before == "(0, 0)") == (after == "(0, 0)"),
        // A terminal whose other end stays does not move; preflight says so.
        "tty_nr" => after == "0",
        _ => false,
    }
}

/// Every difference, in words; none if all is as it was.
pub fn compare(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    compare_areas(&before.areas, &after.areas, &mut found);
    compare_fields("", &before.process, &after.process, &mut found);
    compare_maps("thread", &before.threads, &after.threads, &mut found);
    compare_maps("descriptor", &before.descriptors, &after.descriptors, &mut found);
    found
}

fn compare_maps<K: Ord + Copy + Display>(
    what: &str,
    before: &BTreeMap<K, Fields>,
    after: &BTreeMap<K, Fields>,
    found: &mut Vec<String>,
) {
    let keys: BTreeSet<K> = before.keys().chain(after.keys()).copied().collect();
    for key in keys {
        match (before.get(&key), after.get(&key)) {
            (Some(before), Some(after)) => compare_fields(&format!("{what} {key}: "), before, after, found),
            (Some(_), None) => found.push(format!("{what} {key} is gone")),
            (None, _) => found.push(format!("{what} {key} is new")),
        }
    }
}

fn compare_fields(whose: &str, before: &Fields, after: &Fields, found: &mut Vec<String>) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) if before == after || may_change(name, before, after) => {}
            (before, after) => found.push(format!("{whose}{name}: was {before:?}, is {after:?}")),
        }
    }
}

/// Names the areas that are on one side only, each once.
fn compare_areas(before: &[Area], after: &[Area], found: &mut Vec<String>) {
    let by_start = |areas: &[Area]| areas.iter().map(|a| (a.start, a.clone())).collect::<BTreeMap<_, _>>();
    let (before, after) = (by_start(before), by_start(after));
    let starts: BTreeSet<&u64> = before.keys().chain(after.keys()).collect();
    for start in starts {
        match (before.get(start), after.get(start)) {
            (Some(before), Some(after)) if before == after => {}
            (before, after) => found.push(format!("memory: was {}, is {}", shown(before), shown(after))),
        }
    }
}

fn shown(area: Option<&Area>) -> String {
    area.map_or("nothing there".into(), |a| {
        let (from, to, offset) = (a.start, a.end, a.offset);
        format!("{from:x}-{to:x} {} {offset:x} {} {} {}", a.permissions, a.inode, a.name, a.flags.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    /// Of a process that does nothing.
    fn some() -> Snapshot {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
        // It has answered: it has begun.
        cat.stdin.as_mut().expect("its input").write_all(b"x").expect("a write");
        cat.stdout.as_mut().expect("its output").read_exact(&mut [0]).expect("a read");
        let snapshot = Snapshot::take(cat.id() as i32).expect("its snapshot");
        drop(cat.stdin.take());
        cat.wait().expect("its end");
        snapshot
    }

    #[test]
    fn nothing_differs_from_itself() {
        let snapshot = some();
        assert_eq!(compare(&snapshot, &snapshot), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named() {
        let before = some();
        let mut after = before.clone();
        let area = after.areas.first_mut().expect("areas");
        area.permissions = "rwxs".into();
        area.flags.push("lo".into());
        after.process.insert("Umask".into(), "0777".into());
        after.process.insert("FDSize".into(), "1".into());
        let first = *after.threads.keys().next().expect("threads");
        after.threads.insert(-1, Fields::new());
        after.threads.get_mut(&first).expect("it").insert("SigBlk".into(), "?".into());
        after.descriptors.remove(&0);
        let found = compare(&before, &after);
        let beginnings = ["memory: was ", "Umask: was ", "thread -1 is new", "thread ", "descriptor 0 is gone"];
        assert_eq!(found.len(), beginnings.len(), "{found:?}");
        for (line, beginning) in found.iter().zip(beginnings) {
            assert!(line.starts_with(beginning), "{line}");
        }
    }
}
