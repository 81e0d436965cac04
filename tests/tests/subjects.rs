//! Every program in `subjects`, moved in every way. One test a subject and way: `subjects NAME`, its file's name.

use std::fs;
use std::path::Path;
use std::time::Duration;

use migrate_tests::busy::Busy;
use migrate_tests::compare::compare;
use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, skipped};
use migrate_tests::waiting::{wait_for, wait_for_file};

/// What cannot move yet, and the words that say so. It must go on where it is.
const REFUSED: &[(&str, &str)] = &[
    ("refused_mapping", "memory of a device"),
    ("refused_packet_ring", "fd 7: a packet socket with a ring"),
    ("refused_traced_thread", "(a debugger); end that first"),
    ("refused_supervisor", "SECCOMP_RET_USER_NOTIF"),
    ("refused_unshared", "unshare CLONE_FS"),
    ("refused_unshared_first_ended", "unshare CLONE_FS"),
    ("refused_pipe_first_ended", "a pipe (pipe:["),
    ("refused_memory_first_ended", "it shares memory with process "),
    ("refused_dispatch", "PR_SET_SYSCALL_USER_DISPATCH"),
    ("refused_descriptor_table", "modify_ldt"),
    ("refused_breakpoint", "hardware breakpoints"),
    ("refused_pidfd", "which stays; let the program close it, or leave it behind: --fd "),
    ("refused_inotify_queue", "bytes of events that the program has not read"),
    ("refused_inotify_removed", "which has been removed; have the program remove that watch"),
    ("refused_proc", "/proc/1/status is of process 1, which stays"),
    ("lease_write", "has a lease for writing"),
    ("refused_lease_breaking", "is being broken"),
    ("refused_hugetlb", "huge pages (hugetlbfs)"),
    ("refused_segment", "it shares memory with process "),
    ("refused_sysv_sem_shared", "which stays; they cannot be parted: let one of them end, or use another"),
    ("refused_sysv_sem_wait", ") waits for System V semaphore set "),
    ("refused_sysv_msg_shared", "it has used System V message queue "),
    ("refused_sysv_msg_wait", ") waits for System V message queue "),
    ("refused_sysv_undo", "at its own end, and not at the process's (unshare CLONE_SYSVSEM)"),
    ("refused_protection_key", " has protection key "),
    ("refused_posix_shm", ", which it has open or mapped, is descriptor "),
    ("refused_tcp_connection", "a TCP connection from 127.0.0.1:20222 to 127.0.0.1:20221"),
    ("refused_tcp_waiting", "for which 2 connections wait"),
    ("refused_netlink_queue", "a netlink socket with messages that the program has not read"),
    ("refused_tcp_keys", "keys for signed connections"),
    ("refused_udp_bpf", "its filter is an eBPF program"),
    ("refused_udp_corked", "a UDP socket that holds back data (UDP_CORK, MSG_MORE) with options of IP"),
    ("refused_unix_urgent", "urgent data (MSG_OOB)"),
    ("refused_unix_flight", "descriptors are in flight in a stream together with what was sent before them"),
];

/// What a subject changes all the time, by itself: two looks never show the same.
const RESTLESS: &[(&str, &str)] = &[
    ("devices", "descriptor 8: flags: "),
    ("file_restless", "descriptor"),
    ("mem_moved_tables", "memory: "),
    ("file_restless_state", "descriptor"),
    ("mem_remapping", "memory: "),
    ("mem_random", "memory: "),
    // Until it is moved the kernel shows the name that libc made the semaphore under.
    ("mem_posix_shm", "memory: "),
    ("mem_shared_random", "memory: "),
    ("threads_restless", "memory: "),
    ("threads_restless", "hreads: "),
    ("threads_restless", "thread"),
    // While the C library makes a thread.
    ("threads_restless", "SigBlk: "),
    ("file_offset", "descriptor 5: pos: "),
    ("first_ended", "descriptor 3: pos: "),
    ("first_ended", "ShdPnd: "),
    ("itimer_periodic", "ShdPnd: "),
    ("timer_periodic", "Pnd: "),
    ("timer_random", "Pnd: "),
    ("sig_random", "Pnd: "),
    ("sig_urgent", "SigPnd: "),
    // What was used is taken off.
    ("limits_cpu", "limits: "),
    ("call_epoll_pwait2", "SigBlk: "),
    ("waits_anew", "SigBlk: "),
    ("timerfd_ticks", "ticks: "),
    ("timerfd_ticks", "it_value: "),
    ("timerfd_periodic", "ticks: "),
    ("timerfd_periodic", "it_value: "),
    ("timerfd_due", "ticks: "),
    ("timerfd_due", "it_value: "),
    ("call_timerfd_read", "it_value: "),
    ("timer_random", "timers: "),
    // Inside sigtimedwait what it waits for is not blocked.
    ("timer_random", "SigBlk: "),
    // It may have been sent one, or be in its handler.
    ("sig_urgent", "SigPnd: "),
    ("sig_urgent", "SigBlk: "),
    // libc makes one for each expiry.
    ("timer_libc_thread", "memory: "),
    ("timer_libc_thread", "hreads: "),
    ("timer_libc_thread", "thread"),
    ("timer_libc_thread", "SigBlk: "),
    // Of a timer that has been set anew: the kernel would drop it.
    ("timer_waiting", "ShdPnd: "),
    // Inside the call its temporary mask shows, between two calls its own.
    ("call_ppoll", "SigBlk: "),
    ("call_pselect", "SigBlk: "),
];

/// A subject that stops itself once it is ready. It is continued when it is to check itself.
const STOPS: &str = "stopped_";

/// A subject whose processor is kept busy while it is moved.
const BUSY: &str = "wait_busy";

/// How long a subject may take to set itself up or to check itself.
const PATIENCE: Duration = Duration::from_secs(30);

macro_rules! subject {
    ($name:ident) => {
        mod $name {
            #[test]
            fn plain() {
                super::run(stringify!($name), "plain", 1);
            }

            #[test]
            fn there_and_back() {
                super::run(stringify!($name), "there_and_back", 6);
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/subjects.rs"));

fn run(name: &str, way: &str, moves: usize) {
    let program = Path::new(env!("OUT_DIR")).join(name);
    if let Ok(why) = fs::read_to_string(program.with_extension("error")) {
        match why.strip_prefix("SKIPPED: ") {
            Some(reason) => return skipped(&format!("{name} {way}"), reason),
            None => panic!("{name}.c {why}"),
        }
    }
    let Some(hosts) = hosts!(&format!("{name} {way}")) else { return };
    let _busy = (name == BUSY).then(Busy::begin);
    if let Some(reason) = run_with(&hosts, name, &program, moves) {
        skipped(&format!("{name} {way}"), &reason);
    }
}

/// Some: what the machine lacks.
fn run_with(hosts: &Hosts, name: &str, program: &Path, moves: usize) -> Option<String> {
    let directory = tempfile::Builder::new().prefix(name).tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let mut subject = hosts.start(Host::Alpha, directory, &[&program.display().to_string(), &path]);
    let ready = wait_for(PATIENCE, || {
        [subject.path("ready"), subject.path("result")].iter().any(|file| file.exists()).then_some(())
    });
    assert!(ready.is_some(), "{name} does not get ready: {}", subject.said());
    let early = subject.text("result");
    if let Some(reason) = early.strip_prefix("skipped: ") {
        return Some(reason.trim().into());
    }
    assert!(early.is_empty(), "{name} before it was moved: {early}");
    // One that is no session leader has been forked by what was started.
    subject.pid = subject.text("ready").trim().parse().expect("a PID");

    let stops = name.starts_with(STOPS);
    if stops {
        let stands = || (subject.snapshot().process.get("State").map(String::as_str) == Some("T")).then_some(());
        wait_for(PATIENCE, stands).unwrap_or_else(|| panic!("{name} does not stop: {}", subject.said()));
    }
    let mut wrong = Vec::new();
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((_, words)) => {
            let why = hosts.push(subject.pid, Host::Alpha, "beta", &[]).refused().unwrap_or_else(|e| panic!("{e}"));
            assert!(why.contains(words), "{why}");
        }
        None => {
            for round in 1..=moves {
                let before = subject.snapshot();
                if let Err(why) = subject.move_over() {
                    panic!("{name}, move {round} of {moves}: {why}{}", subject.said());
                }
                assert!(subject.runs_only(subject.host), "{name} after move {round}: {}", subject.said());
                let after = subject.snapshot();
                let restless = |line: &String| RESTLESS.iter().any(|(who, what)| *who == name && line.contains(what));
                let differences = compare(&before, &after).into_iter().filter(|line| !restless(line));
                wrong.extend(differences.map(|line| format!("after move {round}: {line}")));
            }
        }
    }
    fs::write(subject.path("check"), "").expect("a file");
    if stops {
        hosts.must(subject.host, &["kill", "-CONT", &subject.pid.to_string()]);
    }
    let result = wait_for_file(&subject.path("result"), PATIENCE);
    let Some(result) = result else { panic!("{name} does not check itself: {}\n{}", subject.said(), wrong.join("\n")) };
    if let Some(reason) = result.strip_prefix("skipped: ") {
        return Some(reason.trim().into());
    }
    assert_eq!(result.trim(), "ok", "{name}; {}\n{}", subject.said(), wrong.join("\n"));
    assert!(wrong.is_empty(), "{name} looks different:\n{}", wrong.join("\n"));
    None
}
