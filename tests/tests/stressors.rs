//! Workers of stress-ng, which check what they do, moved ten times there and back while they work. Each is one of several processes
//! that share memory, so it is made the last of them: the others are killed.

use std::fs;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Started};
use migrate_tests::waiting::wait_for;
use tempfile::TempDir;

const STRESS: &str = "/usr/bin/stress-ng";
const CC: &str = "/usr/bin/cc";

/// How long one may take to begin, to do some more, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The worker comes last. It is by itself before it is told of.
const SCRIPT: &str = "cc -shared -fPIC -O1 -o stays.so stays.c || exit 1
LD_PRELOAD=$PWD/stays.so stress-ng --verify --keep-name --timeout 1000 \"$@\" &
main=$!
while sleep 0.1; do
    all=$main last=$main
    while last=$(cat \"/proc/$last/task/$last/children\" 2>/dev/null) && last=${last% } && [ -n \"$last\" ]; do all=\"$last $all\"; done
    set -- $all
    [ $# -ge WANTED ] && break
done
worker=$1
shift
kill -KILL \"$@\"
wait 2>/dev/null
echo \"$worker\" >worker.new && mv worker.new worker";

/// `processes`: of which the last one is the worker.
fn stress(test: &str, processes: usize, arguments: &[&str]) {
    let Some(hosts) = hosts!(test, &[STRESS, CC]) else { return };
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("stays.c"), include_str!("../programs/stays.c")).expect("a file");
    let script = SCRIPT.replace("WANTED", &processes.to_string());
    let command = [&["sh", "-c", &script, "sh"], arguments].concat();
    let mut worker = hosts.start(Host::Alpha, directory, &command);
    let text = wait_for(PATIENCE, || worker.text("worker").trim().parse().ok());
    worker.pid = text.unwrap_or_else(|| panic!("no worker: {}", worker.said()));
    let alone = wait_for(PATIENCE, || worker.runs_only(Host::Alpha).then_some(()));
    assert!(alone.is_some(), "{}", worker.said());
    for n in 0..20 {
        worker.move_over().unwrap_or_else(|why| panic!("move {}: {why}{}", n + 1, worker.said()));
        assert!(worker.runs_only(worker.host), "after move {}: {}", n + 1, worker.said());
    }
    let before = used(&worker);
    let goes_on = wait_for(PATIENCE, || (used(&worker) > before + 10).then_some(()));
    assert!(goes_on.is_some(), "it does nothing any more: {}", worker.said());
    hosts.must(worker.host, &["kill", "-INT", &worker.pid.to_string()]);
    worker.wait_end(PATIENCE).unwrap_or_else(|why| panic!("{why}: {}", worker.said()));
    let said = worker.said();
    assert!(!said.contains("fail") && !said.contains("error"), "{said}");
}

/// The CPU time that it has had where it is, in clock ticks: utime and stime (proc_pid_stat(5)).
fn used(worker: &Started<'_>) -> u64 {
    let stat = worker.hosts.must(worker.host, &["cat", &format!("/proc/{}/stat", worker.pid)]);
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ');
    fields.skip(12).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn memory() {
    stress("memory", 3, &["--vm", "1", "--vm-bytes", "64M", "--vm-keep"]);
}

#[test]
fn timer() {
    stress("timer", 2, &["--timer", "1", "--timer-freq", "5000"]);
}

#[test]
fn interval_timer() {
    stress("interval_timer", 2, &["--itimer", "1", "--itimer-freq", "1000"]);
}

#[test]
fn faults() {
    stress("faults", 2, &["--sigsegv", "1"]);
}

#[test]
fn signals() {
    stress("signals", 2, &["--sigfpe", "1"]);
}
