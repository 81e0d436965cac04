//! What a process has, by number: descriptors, threads, children.

use super::process::Process;
use super::text::{number, words};
use super::{Malformed, failed, is_gone, read_parsed};
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// The name of a process, from `/proc/PID/comm`; empty: it is gone.
pub fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().into()
}

/// The open descriptors, ascending, from `/proc/PID/fd`.
///
/// # Errors
/// Those of reading the folder; see [`super::is_gone`].
pub fn read_fds(pid: i32) -> io::Result<Vec<i32>> {
    read_numbers(&format!("/proc/{pid}/fd"))
}

/// How many descriptors are open, or about to be: the size of `/proc/PID/fd` (fs/proc/fd.c `proc_fd_getattr`). None before Linux
/// 6.2, which does not tell.
///
/// # Errors
/// Those of stat(2); see [`super::is_gone`].
pub fn count_fds(pid: i32) -> io::Result<Option<usize>> {
    let folder = format!("/proc/{pid}/fd");
    let size = std::fs::metadata(&folder).map_err(|cause| failed(&folder, cause))?.len();
    Ok(usize::try_from(size).ok().filter(|count| *count > 0))
}

/// The threads' IDs, ascending, from `/proc/PID/task`. Not the whole truth while the process runs: a thread
/// may start at any time.
///
/// # Errors
/// Those of reading the folder; see [`super::is_gone`].
pub fn read_tids(pid: i32) -> io::Result<Vec<i32>> {
    read_numbers(&format!("/proc/{pid}/task"))
}

/// The processes in `/proc`, ascending.
///
/// # Errors
/// Those of reading the folder.
pub fn read_pids() -> io::Result<Vec<i32>> {
    read_numbers("/proc")
}

/// Looks at every descriptor of every process but those of `except`: tells the process, the descriptor's place in /proc, and where its link
/// leads. Processes come and go meanwhile; one that is gone holds nothing.
///
/// # Errors
/// Those of listing the processes.
pub fn for_each_fd_of_others(except: &[i32], mut tell: impl FnMut(Process, &DirEntry, &[u8])) -> io::Result<()> {
    for other in read_pids()?.into_iter().filter(|pid| !except.contains(pid)) {
        let mut any = false;
        let process = Process { pid: other, alive: other };
        for_each_fd(other, |entry, link| {
            any = true;
            tell(process, entry, link);
        });
        if !any && let Some(process) = Process::without_first(other) {
            for_each_fd(process.alive, |entry, link| tell(process, entry, link));
        }
    }
    Ok(())
}

fn for_each_fd(pid: i32, mut tell: impl FnMut(&DirEntry, &[u8])) {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        if let Ok(link) = std::fs::read_link(entry.path()) {
            tell(&entry, link.as_os_str().as_bytes());
        }
    }
}

/// The children of all threads, ascending, from `/proc/PID/task/*/children` (needs CONFIG_PROC_CHILDREN).
/// Right only while the children stand still (proc_tid_children(5)).
///
/// # Errors
/// Those of reading; a thread that ends meanwhile is no error, its children go to another.
pub fn read_children(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for tid in read_tids(pid)? {
        match read_parsed(format!("/proc/{pid}/task/{tid}/children"), parse_children) {
            Ok(mut more) => children.append(&mut more),
            Err(error) if tid != pid && is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    children.sort_unstable();
    children.dedup();
    Ok(children)
}

/// Parses the text of a `children` file: numbers with spaces between.
///
/// # Errors
/// When something else is found.
pub fn parse_children(text: &[u8]) -> Result<Vec<i32>, Malformed> {
    words(text.trim_ascii())
        .map(|word| {
            number(word, 10)
                .and_then(|pid| i32::try_from(pid).ok())
                .ok_or_else(|| Malformed::new(format!("{} is not a PID", super::text::shown(word))))
        })
        .collect()
}

/// The names in a folder of `/proc` that are numbers, ascending.
fn read_numbers(folder: &str) -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir(folder).map_err(|cause| failed(folder, cause))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(|cause| failed(folder, cause))?.file_name();
        // `/proc` itself has other names besides.
        if let Some(found) = number(name.as_bytes(), 10).and_then(|found| found.try_into().ok()) {
            numbers.push(found);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    #[test]
    fn reads_this_process() {
        let pid = std::process::id() as i32;
        let file = tempfile::tempfile().unwrap();
        let fds = read_fds(pid).unwrap();
        assert!(fds.contains(&file.as_raw_fd()));
        assert!(fds.is_sorted());
        assert!(count_fds(pid).unwrap().is_none_or(|count| count > 3));
        assert!(read_tids(pid).unwrap().contains(&pid));
        assert!(read_pids().unwrap().contains(&pid));
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let children = read_children(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(children.unwrap().contains(&(child.id() as i32)));
    }

    #[test]
    fn a_missing_process_is_gone() {
        assert!(is_gone(&read_fds(0).unwrap_err()));
        assert!(is_gone(&read_children(0).unwrap_err()));
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_children(&text);
        }
    }
}
