//! System calls of x86_64 by name, and those whose use keeps a process from moving.

/// Number and name of each (arch/x86/entry/syscalls/syscall_64.tbl).
const NAMES: &str = include_str!("calls.txt");

/// Its name; one that is newer than the table has its number.
pub fn name_of(number: u32) -> String {
    let number = number.to_string();
    let line = |line: &'static str| line.split_once(' ').filter(|(its, _)| *its == number);
    NAMES.lines().find_map(line).map_or_else(|| format!("call {number}"), |(_, name)| name.into())
}

/// Calls, by any of which a process gets something that cannot move, and what that is.
pub const UNMOVABLE: &[(&[&str], &str)] = &[
    (&["io_uring_setup", "io_uring_enter", "io_uring_register"], "an io_uring"),
    (&["io_setup", "io_submit"], "asynchronous I/O (io_setup)"),
    (&["userfaultfd"], "a userfaultfd"),
    (&["bpf"], "BPF programs or maps"),
    (&["perf_event_open"], "performance counters"),
    (&["fanotify_init"], "a fanotify"),
    (&["memfd_secret"], "secret memory (memfd_secret)"),
    (&["landlock_create_ruleset"], "a Landlock ruleset"),
    (&["fsopen", "fspick"], "a file system being configured (fsopen)"),
    (&["ptrace"], "the tracing of another process (ptrace)"),
    (&["modify_ldt"], "a local descriptor table (modify_ldt)"),
    (&["iopl", "ioperm"], "I/O ports"),
    (&["unshare", "setns"], "other namespaces (unshare, setns)"),
    (&["mq_open"], "POSIX message queues"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_their_names() {
        use nix::libc;
        let known = [(libc::SYS_read, "read"), (libc::SYS_openat, "openat"), (libc::SYS_futex_waitv, "futex_waitv")];
        for (number, name) in known {
            assert_eq!(name_of(number as u32), name);
        }
        assert_eq!((name_of(462), name_of(9999)), ("mseal".into(), "call 9999".into()));
        for name in UNMOVABLE.iter().flat_map(|(names, _)| *names) {
            assert!(NAMES.lines().any(|line| line.split_once(' ').is_some_and(|(_, its)| its == *name)), "{name}");
        }
    }
}
