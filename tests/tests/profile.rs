//! `migrate-cli check --profile`: that it sees what a program does whose doings are known, that what it predicts happens, and what it
//! says of processes that cannot be watched.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started, skipped};
use migrate_tests::waiting::{wait_for, wait_for_file};
use serde_json::Value;
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";
const MIB: u64 = 1 << 20;

fn start<'h>(hosts: &'h Hosts, program: &str) -> Started<'h> {
    let started = hosts.start(Host::Alpha, TempDir::new().expect("a directory"), &[PYTHON, "-S", "-B", "-c", program]);
    assert!(wait_for_file(&started.path("ready"), Duration::from_secs(20)).is_some(), "{}", started.text("stderr"));
    started
}

fn check(hosts: &Hosts, arguments: &[&str]) -> Output {
    hosts.exec(Host::Alpha, &[&["migrate-cli", "check"], arguments].concat())
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned()
}

fn json(done: &Output) -> Value {
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("{}", said(done)))
}

/// The number at a place of the document, in which a part of a path may be `KEY=VALUE` of a list's element.
fn number(from: &Value, path: &[&str]) -> u64 {
    let found = path.iter().fold(from, |value, part| match part.split_once('=') {
        Some((key, wanted)) => {
            let all = value.as_array().unwrap_or_else(|| panic!("no list for {part} in {value}"));
            all.iter()
                .find(|element| element[key].as_str().is_some_and(|text| text.contains(wanted)))
                .unwrap_or_else(|| panic!("no {part} in {value:#}"))
        }
        None => &value[part],
    });
    found
        .as_u64()
        .or_else(|| found.as_f64().map(|n| n as u64))
        .unwrap_or_else(|| panic!("no number at {path:?}: {found}"))
}

/// Whether its calls were seen by the probe; else the test has been said to be skipped.
fn all_were_seen(test: &str, profile: &Value) -> bool {
    let all = profile["source"] == "ebpf";
    if !all {
        skipped(test, &format!("the probe cannot be had: {}", profile["notes"]));
    }
    all
}

#[test]
fn names_calls_files_and_peers() {
    let Some(hosts) = hosts!("names_calls_files_and_peers", &[PYTHON]) else { return };
    let program = "\
import os, socket, time
here = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
here.bind(('127.0.0.1', 7171)); here.listen()
pair = socket.socketpair()
open('ready', 'w')
while True:
    open('known', 'w').write('x')
    try: open('missing')
    except OSError: pass
    there = socket.create_connection(('127.0.0.1', 7171)); other, _ = here.accept()
    there.sendall(b'x' * 1000); other.recv(1000)
    there.close(); other.close()
    pair[0].send(b'12345'); pair[1].recv(5)
    for _ in range(10): os.getppid()
    time.sleep(0.02)";
    let started = start(&hosts, program);
    let done = check(&hosts, &[&started.pid.to_string(), "--profile", "2s", "--json"]);
    let all = json(&done);
    let profile = &all["profile"];
    if !all_were_seen("names_calls_files_and_peers", profile) {
        return;
    }
    let calls = |name: &str, what| number(profile, &["calls", &format!("name={name}"), what]);
    let rounds = calls("getppid", "count") / 10;
    assert!((5..=100).contains(&rounds), "{rounds} rounds of 20 ms in 2 s");
    // Each of the others once in a round; the first and the last one may be half seen.
    let about = |name: &str, seen: u64, times: u64| {
        assert!(
            (rounds.saturating_sub(2) * times..=(rounds + 2) * times).contains(&seen),
            "{name}: {seen} in {rounds} rounds"
        );
    };
    about("accept4", calls("accept4", "count"), 1);
    assert!(calls("openat", "failed") >= rounds - 2, "{profile:#}");
    let sleep = profile["calls"]
        .as_array()
        .and_then(|all| all.iter().find(|c| c["name"].as_str().is_some_and(|n| n.ends_with("nanosleep"))));
    assert!(sleep.is_some_and(|sleep| number(sleep, &["ns"]) > 500_000_000), "{profile:#}");
    about("known", number(profile, &["files", "path=/known", "opened"]), 1);
    about("missing", number(profile, &["files", "path=/missing", "failed"]), 1);
    assert_eq!(
        profile["files"]
            .as_array()
            .and_then(|f| f.iter().find(|f| f["path"].as_str().is_some_and(|p| p.ends_with("/known"))))
            .map(|f| f["written"].clone()),
        Some(true.into())
    );
    let peers = profile["peers"].as_array().expect("peers");
    let total = |key: &str| {
        peers
            .iter()
            .filter(|p| p["peer"].as_str().is_some_and(|p| p.starts_with("127.0.0.1")))
            .map(|p| number(p, &[key]))
            .sum()
    };
    about("connected", total("connected"), 1);
    about("accepted", total("accepted"), 1);
    about("sent", total("sent"), 1000);
    assert!(peers.iter().any(|p| p["kind"] == "unix socket" && number(p, &["sent"]) > 0), "{profile:#}");
    let cannot = profile["cannot_move"].to_string();
    assert!(cannot.contains("TCP connection with 127.0.0.1:7171"), "{cannot}");

    let text = said(&check(&hosts, &[&started.pid.to_string(), "--profile", "1s"]));
    for shown in [
        "watched for 1.",
        "system calls (all of them):",
        "getppid",
        "/known  (to be written)",
        "TCP socket 127.0.0.1:7171",
        "a move would take",
        "used in that time, and cannot move:",
    ] {
        assert!(text.contains(shown), "no {shown:?} in {text}");
    }
    assert!(started.runs_only(Host::Alpha), "{}", started.said());
}

#[test]
fn a_busy_and_a_quiet_phase_are_told_apart() {
    let Some(hosts) = hosts!("a_busy_and_a_quiet_phase_are_told_apart", &[PYTHON]) else { return };
    // 16 MiB are written every 20 ms for a second and a half, and for as long nothing.
    let program = "\
import mmap, time
SIZE = 16 << 20
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
page = b'x' * 4096
def write():
    for at in range(0, SIZE, 4096): memory[at] = (memory[at] + 1) & 255
write()
open('ready', 'w')
while True:
    end = time.monotonic() + 1.5
    while time.monotonic() < end: write(); time.sleep(0.02)
    time.sleep(1.5)";
    let started = start(&hosts, program);
    let profile = json(&check(
        &hosts,
        &[&started.pid.to_string(), "--profile", "8s", "--bandwidth", "100M", "--max-downtime", "20ms", "--json"],
    ))["profile"]
        .take();
    let memory = &profile["memory"];
    if memory.is_null() {
        return skipped("a_busy_and_a_quiet_phase_are_told_apart", &profile["notes"].to_string());
    }
    let bytes = number(memory, &["working_set_bytes"]);
    assert!((16 * MIB..24 * MIB).contains(&bytes), "{bytes} bytes");
    let (quiet, busy) = (number(memory, &["quietest_pages_per_s"]), number(memory, &["busiest_pages_per_s"]));
    // 4096 pages in each interval of 0.4 s, if that is not longer because the machine is busy; hardly any in the others.
    assert!(busy > 10 * quiet.max(50), "{memory:#}");
    let moves = &profile["moves"];
    let (best, worst) = (number(moves, &["best", "downtime_us"]), number(moves, &["worst", "downtime_us"]));
    // 16 MiB at 100 MiB a second are 160 ms.
    assert!(best < 60_000 && worst > 100_000, "{moves:#}");
    let moment = &moves["best_moment"];
    assert!(moment["at_s"].is_number() && moment["until_s"].as_f64() > moment["at_s"].as_f64(), "{moment}");
}

#[test]
fn what_is_predicted_happens() {
    let Some(hosts) = hosts!("what_is_predicted_happens", &[PYTHON]) else { return };
    // One that does nothing, and one that rewrites 8 MiB all the time.
    for (hot, name) in [(0, "idle"), (8, "hot")] {
        let program = format!(
            "\
import mmap, time
memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(memory), 4096): memory[at] = 1 + (at >> 12) % 250
open('ready', 'w')
while True:
    for at in range(0, {hot} << 20, 4096): memory[at] = (memory[at] % 250) + 1
    time.sleep(0.005)"
        );
        let mut started = start(&hosts, &program);
        let options = ["--bandwidth", "200M"];
        let pid = started.pid.to_string();
        let asked = [&[pid.as_str(), "beta", "--profile", "3s", "--json"][..], &options].concat();
        let profile = json(&check(&hosts, &asked))["profile"].take();
        if profile["memory"].is_null() {
            return skipped("what_is_predicted_happens", &profile["notes"].to_string());
        }
        let expected = |what| number(&profile, &["moves", "typical", what]);
        let happened = started
            .move_over_with(&[&options[..], &["--compress", "off"]].concat())
            .unwrap_or_else(|why| panic!("{why}"));
        let near = |what: &str, expected: u64, happened: u64, factor: u64| {
            let both = format!(
                "{name}: {what}: {expected} were expected, {happened} happened\n{:#}\n{happened:?}",
                profile["moves"]
            );
            assert!(expected <= happened * factor && happened <= expected * factor, "{both}");
        };
        near("bytes", expected("bytes"), happened.bytes_sent, 2);
        near("total", expected("total_us"), happened.total_us, 10);
        near("downtime", expected("downtime_us"), happened.downtime_us.unwrap_or(0), 10);
        near("rounds", expected("rounds") + 1, happened.rounds.len() as u64, 3);
    }
}

#[test]
fn what_cannot_be_watched_is_said() {
    let Some(hosts) = hosts!("what_cannot_be_watched_is_said", &[PYTHON]) else { return };
    let refused = |arguments: &[&str], reason: &str| {
        let done = check(&hosts, arguments);
        let text = said(&done);
        assert!(!done.status.success() && text.contains(reason), "no {reason:?} in {text}");
    };
    refused(&["3999999", "--profile", "1s"], "there is no process 3999999 on this host");
    refused(&["1", "--profile", "0.5s"], "1s to 3600s");
    // It ends in the middle.
    let started = start(&hosts, "import time\nopen('ready', 'w')\ntime.sleep(2.5)");
    let done = check(&hosts, &[&started.pid.to_string(), "--profile", "60s", "--json"]);
    let all = json(&done);
    let profile = &all["profile"];
    assert_eq!(
        (&profile["process_ended"], &profile["ended_early"]),
        (&true.into(), &"the process ended".into()),
        "{profile}"
    );
    assert!(profile["seconds"].as_f64().is_some_and(|s| s < 30.0), "{profile}");
    assert_eq!(done.status.code(), Some(1));
}

/// A process of another PID namespace than the machine's: `hosts` gives none that belongs to the kernel.
fn kernel_thread() -> Option<i32> {
    (std::fs::read_to_string("/proc/2/comm").ok()?.trim() == "kthreadd").then_some(2)
}

/// Whether a Ctrl-C does not end it any more: it takes that itself.
fn takes_ctrl_c(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 2 != 0)
}

#[test]
fn ctrl_c_ends_it_early() {
    let binary = std::env::var_os("MIGRATE_BIN_DIR").map(|dir| std::path::Path::new(&dir).join("migrate-cli"));
    let Some(binary) = binary.filter(|binary| binary.exists() && nix::unistd::geteuid().is_root()) else {
        return skipped("ctrl_c_ends_it_early", "it needs root, and MIGRATE_BIN_DIR; scripts/test sets it");
    };
    if let Some(kthreadd) = kernel_thread() {
        let done =
            Command::new(&binary).args(["check", &kthreadd.to_string(), "--profile", "1s"]).output().expect("it runs");
        assert!(said(&done).contains("is a kernel thread"), "{}", said(&done));
    }
    let mut sleeper =
        Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("sleep");
    let pid = sleeper.id().to_string();
    let words = ["check", &pid, "--profile", "600s", "--json"];
    let child =
        Command::new(&binary).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let number = child.id() as i32;
    let ready = wait_for(Duration::from_secs(20), || takes_ctrl_c(number).then_some(()));
    assert!(ready.is_some(), "it does not take Ctrl-C");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), nix::sys::signal::Signal::SIGINT).expect("it runs");
    let done = child.wait_with_output().expect("it ends");
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    let profile = json(&done)["profile"].take();
    assert_eq!(profile["ended_early"], "it was interrupted", "{}", said(&done));
    assert!(profile["seconds"].as_f64().is_some_and(|s| s < 60.0), "{profile}");
}
