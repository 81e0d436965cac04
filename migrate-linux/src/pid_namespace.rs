//! A process that serves as the init of a PID namespace: it needs a /proc of that namespace, while the processes that it makes
//! belong in the mount namespace that it came from.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};

/// Mounts the /proc of the caller's PID namespace over the old one, in the caller's own mount namespace.
pub fn mount_proc() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(nix::mount::mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?)
}

/// Does something in another mount namespace and comes back. Only in a process with a single thread (setns(2)).
pub fn in_mount_namespace<T>(namespace: BorrowedFd<'_>, what: impl FnOnce() -> T) -> io::Result<T> {
    let here = File::open("/proc/self/ns/mnt")?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    let result = what();
    setns(&here, CloneFlags::CLONE_NEWNS)?;
    Ok(result)
}

/// The PID that a process of the caller's PID namespace has in the /proc of another mount namespace. None: not shown there.
pub fn pid_seen_from(namespace: BorrowedFd<'_>, pid: i32) -> Option<i32> {
    // The last number of NSpid is its own; the file is named after the number that this /proc shows.
    let own = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    in_mount_namespace(namespace, || {
        std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let outside: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let inner = numbers.split_whitespace().last()?.parse::<i32>().ok()?;
            let there = std::fs::read_link(entry.path().join("ns/pid")).ok()?;
            (inner == pid && there == own).then_some(outside)
        })
    })
    .ok()?
}

/// How many threads the calling process has.
pub fn thread_count() -> io::Result<usize> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(|why| {
        let what = format!("cannot count the threads in /proc/self/task: {why}");
        io::Error::new(why.kind(), what)
    })?;
    Ok(threads.count())
}
