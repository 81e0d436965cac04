//! A process that changes its memory faster than it can be sent: what `--when-not-converging` makes of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::moves::Report;
use migrate_tests::waiting::{wait_for, wait_for_file};

const PATIENCE: Duration = Duration::from_secs(30);
/// Less than what it writes all the time takes to be sent, far more than a slowed down writer leaves.
const MAX_DOWNTIME: &str = "20ms";
const EXPECTING: &str = "expecting it to stand still for";

fn start<'h>(hosts: &'h Hosts, test: &str) -> Started<'h> {
    let program = Path::new(env!("OUT_DIR")).join("mem_hot");
    if let Ok(why) = fs::read_to_string(program.with_extension("error")) {
        panic!("mem_hot.c {why}");
    }
    let directory = tempfile::Builder::new().prefix(test).tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let subject = hosts.start(Host::Alpha, directory, &[&program.display().to_string(), &path]);
    wait_for_file(&subject.path("ready"), PATIENCE).unwrap_or_else(|| panic!("it does not start"));
    subject
}

fn push(hosts: &Hosts, subject: &mut Started<'_>, what: &str) -> (Report, String) {
    let arguments = ["--when-not-converging", what, "--max-downtime", MAX_DOWNTIME];
    let pushed = hosts.push(subject.pid, Host::Alpha, "beta", &arguments);
    let said = pushed.stderr.clone();
    let report = pushed.moved().unwrap_or_else(|why| panic!("{why}"));
    subject.host = Host::Beta;
    assert!(subject.runs_only(Host::Beta));
    (report, said)
}

fn check(subject: &Started<'_>) {
    fs::write(subject.path("check"), "").expect("a file");
    let result = wait_for_file(&subject.path("result"), PATIENCE);
    assert_eq!(result.as_deref().map(str::trim), Some("ok"), "{}", subject.text("stderr"));
}

#[test]
fn it_is_slowed_down_until_its_memory_is_copied() {
    let Some(hosts) = hosts!("throttle") else { return };
    let mut subject = start(&hosts, "throttle");
    let (report, said) = push(&hosts, &mut subject, "throttle");
    let throttle = report.throttle.as_ref().unwrap_or_else(|| panic!("it was not slowed down: {report:?}"));
    println!("{throttle:?}, {} rounds, {:?} us of downtime", report.rounds.len(), report.downtime_us);
    assert!((20..=99).contains(&throttle.percent) && 0 < throttle.stood_us && throttle.stood_us < throttle.us);
    assert!(said.contains("slowing it down by 20 %"), "{said}");
    let warning = |words: &str| report.warnings.iter().any(|w| w.contains(words));
    assert!(warning("was slowed down, at last by") && !warning(EXPECTING), "{:?}", report.warnings);
    check(&subject);
}

#[test]
fn it_is_told_beforehand_for_how_long_it_will_stand() {
    let Some(hosts) = hosts!("expected downtime") else { return };
    let mut subject = start(&hosts, "expected");
    let (report, said) = push(&hosts, &mut subject, "stop");
    assert!(report.throttle.is_none() && report.warnings.iter().any(|w| w.contains(EXPECTING)), "{report:?}");
    let (told, frozen) = (said.find(EXPECTING), said.find("\nfreeze\n"));
    assert!(told.is_some() && frozen.is_some() && told < frozen, "{said}");
    check(&subject);
}

#[test]
fn it_runs_on_when_whoever_slows_it_down_is_killed() {
    let Some(hosts) = hosts!("throttle killed") else { return };
    let mut subject = start(&hosts, "killed");
    // So little downtime that every step of slowing down is needed; killed within milliseconds of the first.
    let script = "migrate-cli push \"$1\" beta --no-agent --when-not-converging throttle --max-downtime 1ms >/dev/null 2>\"$2\" &
                  until grep -q 'slowing it down' \"$2\"; do kill -0 $! || exit 9; done; kill -KILL $!";
    let (number, said) = (subject.pid.to_string(), subject.path("said").display().to_string());
    hosts.must(Host::Alpha, &["sh", "-c", script, "sh", &number, &said]);
    let status = format!("/proc/{}/status", subject.pid);
    let free = || {
        let status = hosts.must(Host::Alpha, &["cat", &status]);
        (status.contains("\nTracerPid:\t0\n") && !status.contains("\nState:\tt ")).then_some(())
    };
    assert!(wait_for(PATIENCE, free).is_some(), "it is still traced");
    wait_for(PATIENCE, || subject.runs_only(Host::Alpha).then_some(())).expect("nothing is left at the destination");
    push(&hosts, &mut subject, "stop");
    check(&subject);
}
