//! All that /proc shows of a process and that a move must keep.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::areas::{self, Area};

/// Named texts.
pub type Fields = BTreeMap<String, String>;

/// What /proc shows of a process. Texts are escaped where they are no UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its mappings.
    pub areas: Vec<Area>,
    /// What it has once: arguments, environment, limits and so on, by the file's name in /proc/PID.
    pub process: Fields,
    /// Its threads, by ID.
    pub threads: BTreeMap<i32, Fields>,
    /// Its descriptors, by number: where they lead to, and what fdinfo says.
    pub descriptors: BTreeMap<i32, Fields>,
}

/// Files of /proc/PID that are kept as they are.
const WHOLE: [&str; 10] = [
    "cmdline",
    "environ",
    "auxv",
    "limits",
    "oom_score_adj",
    "coredump_filter",
    "personality",
    "timerslack_ns",
    "timers",
    "setgroups",
];

/// Of these, what each thread has for itself.
const OF_FIRST: [&str; 2] = ["personality", "timerslack_ns"];

/// Symbolic links of /proc/PID.
const LINKS: [&str; 3] = ["exe", "cwd", "root"];

/// Fields of /proc/PID/stat (proc_pid_stat(5)): number and name.
const STAT: [(usize, &str); 21] = [
    (5, "pgrp"),
    (6, "session"),
    (19, "nice"),
    (20, "num_threads"),
    (26, "startcode"),
    (27, "endcode"),
    (28, "startstack"),
    (38, "exit_signal"),
    (40, "rt_priority"),
    (41, "policy"),
    (45, "start_data"),
    (46, "end_data"),
    (47, "start_brk"),
    (48, "arg_start"),
    (49, "arg_end"),
    (50, "env_start"),
    (51, "env_end"),
    (7, "tty_nr"),
    (18, "priority"),
    (1, "pid"),
    (52, "exit_code"),
];

/// Fields of /proc/PID/status (proc_pid_status(5)).
const STATUS: [&str; 30] = [
    "Name",
    "Umask",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "FDSize",
    "VmLck",
    "VmPin",
    "CoreDumping",
    "THP_enabled",
    "untag_mask",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Speculation_Store_Bypass",
    "SpeculationIndirectBranch",
    "x86_Thread_features",
    "Cpus_allowed",
];

impl Snapshot {
    /// Reads it.
    ///
    /// # Errors
    /// When a file that every process has cannot be read: the process is gone.
    pub fn take(pid: i32) -> io::Result<Snapshot> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let alive = alive(&directory)?;
        let mut process = Fields::new();
        for name in WHOLE {
            // Not every kernel has every one.
            if let Ok(bytes) = fs::read(alive.join(name)) {
                process.insert(name.into(), bytes.escape_ascii().to_string());
            }
        }
        for name in LINKS {
            process.insert(name.into(), link(&alive.join(name))?);
        }
        for name in OF_FIRST {
            process.insert(format!("{name} of the first thread"), fs::read_to_string(directory.join(name))?);
        }
        process.extend(stat(&directory)?);
        process.extend(status(&directory)?);

        let mut threads = BTreeMap::new();
        for (tid, directory) in numbered(&directory.join("task"))? {
            match thread(&directory) {
                Ok(fields) => drop(threads.insert(tid, fields)),
                // It has ended since the listing.
                Err(_) if !directory.exists() => {}
                Err(error) => return Err(error),
            }
        }

        let mut descriptors = BTreeMap::new();
        let mut objects = Objects::default();
        for (number, path) in numbered(&alive.join("fd"))? {
            let info = fs::read_to_string(alive.join("fdinfo").join(number.to_string()));
            let (target, info) = match (link(&path), info) {
                (Ok(target), Ok(info)) => (target, info),
                // Closed since it was listed: some programs do that all the time.
                (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => continue,
                (Err(e), _) | (_, Err(e)) => return Err(e),
            };
            descriptors.insert(number, descriptor(objects.named_by_order(target), &info));
        }
        let areas = areas::parse(&String::from_utf8_lossy(&fs::read(alive.join("smaps"))?));
        Ok(Snapshot { areas, process, threads, descriptors })
    }
}

/// Where what all its threads share is shown: /proc shows nothing of that by the PID if the first of them has ended before others, but
/// by the ID of any other.
fn alive(process: &Path) -> io::Result<PathBuf> {
    for (tid, thread) in numbered(&process.join("task"))? {
        // It may have ended since.
        if status(&thread).is_ok_and(|fields| !matches!(fields["State"].as_str(), "Z" | "X")) {
            return Ok(PathBuf::from(format!("/proc/{tid}")));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "all of its threads have ended"))
}

fn link(path: &Path) -> io::Result<String> {
    Ok(fs::read_link(path)?.as_os_str().as_bytes().escape_ascii().to_string())
}

fn numbered(directory: &Path) -> io::Result<BTreeMap<i32, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(number) = number {
            found.insert(number, path);
        }
    }
    Ok(found)
}

fn thread(directory: &Path) -> io::Result<Fields> {
    let mut fields = stat(directory)?;
    fields.extend(status(directory)?);
    fields.insert("comm".into(), fs::read(directory.join("comm"))?.escape_ascii().to_string());
    Ok(fields)
}

fn stat(directory: &Path) -> io::Result<Fields> {
    let bytes = fs::read(directory.join("stat"))?;
    Ok(parse_stat(&String::from_utf8_lossy(&bytes)))
}

/// The name, in parentheses, may itself hold spaces and parentheses; it is field 2.
fn parse_stat(text: &str) -> Fields {
    let (pid, rest) = text.split_once(' ').unwrap_or_default();
    let (_, rest) = rest.rsplit_once(") ").unwrap_or_default();
    let mut fields = Fields::new();
    for (number, name) in STAT {
        let value = if number == 1 { Some(pid) } else { rest.split_whitespace().nth(number.saturating_sub(3)) };
        fields.insert(name.into(), value.unwrap_or_default().into());
    }
    fields
}

fn status(directory: &Path) -> io::Result<Fields> {
    let bytes = fs::read(directory.join("status"))?;
    Ok(parse_status(&String::from_utf8_lossy(&bytes)))
}

fn parse_status(text: &str) -> Fields {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut fields: Fields =
        lines.clone().filter(|(name, _)| STATUS.contains(name)).map(|(n, v)| (n.into(), v.trim().into())).collect();
    // Whether it runs or sleeps is chance; whether it is stopped, traced or dead is not.
    let state = lines.clone().find(|(name, _)| *name == "State").map_or("", |(_, value)| value.trim());
    let kind = match state.get(..1).unwrap_or_default() {
        "R" | "S" | "D" | "I" => "alive",
        other => other,
    };
    fields.insert("State".into(), kind.into());
    fields
}

/// What is shown by a number of the kernel's.
const KEPT_IN_ORDER: [&str; 9] = ["pipe", "socket", "net", "mnt", "pid", "uts", "user", "ipc", "cgroup"];

/// Pipes and the like have numbers that the kernel gives as they come: the first one met is 1.
#[derive(Default)]
struct Objects(Vec<String>);

impl Objects {
    fn named_by_order(&mut self, target: String) -> String {
        let Some((kind, _)) = target.split_once(":[").filter(|(kind, _)| KEPT_IN_ORDER.contains(kind)) else {
            return target;
        };
        let kind = kind.to_string();
        let position = self.0.iter().position(|known| *known == target).unwrap_or_else(|| {
            self.0.push(target);
            self.0.len() - 1
        });
        format!("{kind}:[{}]", position + 1)
    }
}

/// What O_TMPFILE has made is named after its inode.
fn nameless(target: String) -> String {
    let number = target.strip_suffix(" (deleted)").and_then(|path| path.rsplit_once("/#"));
    match number {
        Some((directory, inode)) if inode.parse::<u64>().is_ok() => format!("{directory}/# (deleted)"),
        _ => target,
    }
}

fn descriptor(target: String, info: &str) -> Fields {
    let target = nameless(target);
    let of_kernel = ["/proc", "/sys"].iter().any(|top| target.starts_with(top)) || target.contains(":[");
    let unnamed = of_kernel || target.starts_with("/dev/shm/") || target.ends_with(" (deleted)");
    let mut fields = Fields::from([("target".to_string(), target)]);
    let (mut locks, mut registered) = (0, Vec::new());
    for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        match name {
            // The number of a mount on one host says nothing on another; nor does the number of a pipe or an eventfd.
            "mnt_id" | "eventfd-id" => {}
            "ino" if unnamed => {}
            // One line a registration, in no order: the descriptor, events and data count, the inode may be of a pipe.
            "tfd" => {
                let rest: Vec<_> = value.split(' ').take_while(|word| !word.starts_with("ino:")).collect();
                registered.push(rest.join(" "));
            }
            "lock" => {
                locks += 1;
                // The sixth word is the file's device and inode.
                let words = value.split(' ').enumerate().filter(|(at, _)| !unnamed || *at != 5);
                let value = words.map(|(_, word)| word).collect::<Vec<_>>().join(" ");
                fields.insert(format!("lock {locks}"), value);
            }
            _ => {
                fields.insert(name.into(), value);
            }
        }
    }
    registered.sort_unstable();
    for line in registered {
        let number = line.split(' ').next().unwrap_or_default();
        let all = fields.entry(format!("registered {number}")).or_default();
        all.push_str(&line);
        all.push(';');
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let numbers: Vec<_> = (3..=52).map(|n| n.to_string()).collect();
        let fields = parse_stat(&format!("42 (a) b (c) {}\n", numbers.join(" ")));
        assert_eq!((fields["pid"].as_str(), fields["pgrp"].as_str(), fields["env_end"].as_str()), ("42", "5", "51"));
    }

    #[test]
    fn running_and_sleeping_are_the_same() {
        let state = |letter| parse_status(&format!("State:\t{letter} (x)\nVmRSS:\t5 kB\n"))["State"].clone();
        assert_eq!(state("R"), state("S"));
        assert_ne!(state("T"), state("S"));
        assert!(!parse_status("VmRSS:\t5 kB\n").contains_key("VmRSS"));
    }

    #[test]
    fn pipes_are_known_by_their_order() {
        let mut objects = Objects::default();
        let mut named = |target: &str| objects.named_by_order(target.into());
        assert_eq!(named("pipe:[99]"), "pipe:[1]");
        assert_eq!(named("pipe:[5]"), "pipe:[2]");
        assert_eq!(named("pipe:[99]"), "pipe:[1]");
        assert_eq!(named("/x:[7]"), "/x:[7]");
        let fields = descriptor("pipe:[1]".into(), "pos:\t0\nflags:\t01\nmnt_id:\t15\nino:\t99\n");
        assert_eq!(fields.keys().map(String::as_str).collect::<Vec<_>>(), ["flags", "pos", "target"]);
    }
}
