//! `migrate-cli check`: what it says of a process that can move and of one that cannot, and that it touches nothing.

use std::time::Duration;

use migrate_tests::compare::compare;
use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::waiting::wait_for_file;
use serde_json::Value;
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";

/// A program in alpha that has a file open and sleeps. `before`: what else it does.
fn start<'h>(hosts: &'h Hosts, before: &str) -> Started<'h> {
    let program = format!("import time\nmine = open('mine', 'w')\n{before}\nopen('ready', 'w')\ntime.sleep(600)");
    let started = hosts.start(Host::Alpha, TempDir::new().expect("a directory"), &[PYTHON, "-S", "-B", "-c", &program]);
    assert!(wait_for_file(&started.path("ready"), Duration::from_secs(20)).is_some(), "{}", started.text("stderr"));
    started
}

/// The exit status, and what it printed.
fn check(hosts: &Hosts, arguments: &[&str]) -> (Option<i32>, String) {
    let said = hosts.exec(Host::Alpha, &[&["migrate-cli", "check"], arguments].concat());
    (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
}

fn json(text: &str) -> Value {
    text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("no JSON: {text}"))
}

#[test]
fn says_what_moves_and_touches_nothing() {
    let Some(hosts) = hosts!("says_what_moves_and_touches_nothing", &[PYTHON]) else { return };
    let started = start(&hosts, "");
    let (pid, before) = (started.pid.to_string(), started.snapshot());
    let (status, text) = check(&hosts, &[&pid, "beta"]);
    assert_eq!(status, Some(0), "{text}");
    for shown in ["can move to beta", "private memory", "regular file", "/mine", "expected: ", "rounds or more"] {
        assert!(text.contains(shown), "no {shown:?} in {text}");
    }
    let (status, text) = check(&hosts, &[&pid, "--json"]);
    let said = json(&text);
    assert_eq!((status, &said["verdict"], &said["host"]), (Some(0), &"moves".into(), &Value::Null), "{text}");
    assert!(said["expected"]["downtime_us"].as_u64().is_some_and(|us| us > 0), "{text}");
    let changed = compare(&before, &started.snapshot());
    assert!(changed.is_empty(), "{changed:?}");
    assert!(started.runs_only(Host::Alpha), "{}", started.said());
}

#[test]
fn names_every_reason_at_once() {
    let Some(hosts) = hosts!("names_every_reason_at_once", &[PYTHON]) else { return };
    // The call is userfaultfd(2).
    let held = "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.fanotify_init(0, 0)\nlibc.syscall(323, 0)";
    let started = start(&hosts, held);
    let (status, text) = check(&hosts, &[&started.pid.to_string(), "beta", "--json"]);
    let said = json(&text);
    assert_eq!((status, &said["verdict"], &said["expected"]), (Some(1), &"refused".into(), &Value::Null), "{text}");
    let reasons = said["refused"].as_array().map_or(0, Vec::len);
    assert_eq!(reasons, 2, "{text}");
    assert!(text.contains("fanotify") && text.contains("userfaultfd"), "{text}");
}

#[test]
fn what_is_lost_without_a_probe_is_told_beforehand() {
    let Some(hosts) = hosts!("what_is_lost_without_a_probe_is_told_beforehand", &[PYTHON]) else { return };
    let owned = "import fcntl, os, threading\nends = os.pipe()\n\
        def own(): fcntl.fcntl(ends[0], fcntl.F_SETOWN, threading.get_native_id()); owns.set(); threading.Event().wait()\n\
        owns = threading.Event()\nthreading.Thread(target=own, daemon=True).start()\nowns.wait()";
    for (before, loss) in [
        ("import pty; ends = pty.openpty()", "the beginning of a line that is not ended yet is lost"),
        (owned, "that the process gets signals about it by the ID of a thread that is not its first"),
    ] {
        let started = start(&hosts, before);
        let (status, text) = check(&hosts, &[&started.pid.to_string(), "--json", "--kernel-state", "ptrace"]);
        let said = json(&text);
        assert_eq!((status, &said["verdict"]), (Some(0), &"moves-with-loss".into()), "{text}");
        assert!(text.contains(loss), "no {loss:?} in {text}");
        let (_, text) = check(&hosts, &[&started.pid.to_string(), "--json"]);
        let because = text.contains("cannot be loaded");
        assert_eq!(json(&text)["verdict"] == "moves", !because, "{text}");
    }
}

#[test]
fn what_the_destination_says_counts() {
    let Some(hosts) = hosts!("what_the_destination_says_counts", &[PYTHON]) else { return };
    let started = start(&hosts, "");
    let (status, text) = check(&hosts, &[&started.pid.to_string(), "beta:9"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("cannot move to beta:9") && text.contains("is migrate-agent running there"), "{text}");
}
