//! An agent that is told to stop in the middle of a move: nothing is lost, and its host goes on without it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::moves::Pushed;
use migrate_tests::waiting::{wait_for, wait_for_file};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process with 64 MiB that change all the time: at 4 MiB a second its first round alone takes 16 s.
const SLOWLY: [&str; 2] = ["--bandwidth", "4M"];

/// The other tests need both agents, however this one ends.
struct Agents;

impl Drop for Agents {
    fn drop(&mut self) {
        for host in [Host::Alpha, Host::Beta] {
            start_agent(host);
        }
    }
}

fn script(words: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hosts"));
    command.args(words);
    command
}

fn start_agent(host: Host) {
    let done = script(&["start", &host.to_string()]).output().expect("scripts/hosts");
    assert!(done.status.success() || thread::panicking(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Sends SIGTERM to the agent and waits for its end.
fn stop_agent(hosts: &Hosts, host: Host) {
    let lives = format!("kill -0 $(cat /run/migrate-hosts/{host}/agent.pid)");
    hosts.must(host, &["sh", "-c", &lives.replace("-0", "-TERM")]);
    let ended = wait_for(PATIENCE, || (!hosts.exec(host, &["sh", "-c", &lives]).status.success()).then_some(()));
    assert!(ended.is_some(), "the agent on {host} does not end");
}

fn start(hosts: &Hosts) -> Started<'_> {
    let program = Path::new(env!("OUT_DIR")).join("mem_hot");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let subject = hosts.start(Host::Alpha, directory, &[&program.display().to_string(), &path]);
    wait_for_file(&subject.path("ready"), PATIENCE).unwrap_or_else(|| panic!("it does not start"));
    subject
}

/// Has `meanwhile` happen while the process is being copied.
fn push_meanwhile(hosts: &Hosts, subject: &Started<'_>, options: &[&str], meanwhile: impl FnOnce()) -> Pushed {
    let copying = format!("moving {}: pre-copy", subject.pid);
    thread::scope(|scope| {
        let pushing = scope.spawn(|| hosts.push(subject.pid, Host::Alpha, "beta", options));
        let begun = wait_for(PATIENCE, || {
            let log = script(&["log", "alpha"]).output().expect("a log").stdout;
            String::from_utf8_lossy(&log).contains(&copying).then_some(())
        });
        assert!(begun.is_some() && !pushing.is_finished(), "it is not being copied");
        meanwhile();
        pushing.join().expect("pushed")
    })
}

fn check(subject: &Started<'_>) {
    fs::write(subject.path("check"), "").expect("a file");
    let result = wait_for_file(&subject.path("result"), PATIENCE);
    assert_eq!(result.as_deref().map(str::trim), Some("ok"), "{}", subject.text("stderr"));
}

#[test]
fn one_that_ends_while_it_is_being_copied_is_said_to_have_ended() {
    let Some(hosts) = hosts!("stopping") else { return };
    let subject = start(&hosts);
    let kill = format!("kill -KILL {}", subject.pid);
    let pushed = push_meanwhile(&hosts, &subject, &SLOWLY, || {
        hosts.must(Host::Alpha, &["sh", "-c", &kill]);
    });
    let said = pushed.stderr.clone();
    let why = pushed.refused().unwrap_or_else(|said| panic!("{said}"));
    assert!(why.starts_with("it has ended meanwhile") && !said.contains("runs on"), "{said}");
}

#[test]
fn at_the_source_what_is_being_copied_stays() {
    let Some(hosts) = hosts!("stopping") else { return };
    let _agents = Agents;
    let mut subject = start(&hosts);
    let pushed = push_meanwhile(&hosts, &subject, &SLOWLY, || stop_agent(&hosts, Host::Alpha));
    let why = pushed.refused().expect("it stays");
    assert!(why.contains("agent was told to stop"), "{why}");
    assert!(subject.runs_only(Host::Alpha));
    start_agent(Host::Alpha);
    subject.move_over().expect("it moves with the next agent");
    check(&subject);
}

#[test]
fn at_the_destination_what_is_on_its_way_arrives() {
    let Some(hosts) = hosts!("stopping") else { return };
    let _agents = Agents;
    let mut subject = start(&hosts);
    let pushed = push_meanwhile(&hosts, &subject, &["--bandwidth", "40M"], || {
        stop_agent(&hosts, Host::Beta);
        start_agent(Host::Beta);
    });
    pushed.moved().expect("it moves");
    subject.host = Host::Beta;
    assert!(subject.runs_only(Host::Beta));
    subject.move_over().expect("it moves back");
    check(&subject);
}

#[test]
fn a_push_without_an_agent_is_given_up_when_told_to() {
    let Some(hosts) = hosts!("stopping") else { return };
    let subject = start(&hosts);
    let said = subject.path("said").display().to_string();
    let line = format!("exec migrate-cli push {} beta --no-agent --bandwidth 4M 2>{said}", subject.pid);
    let status = thread::scope(|scope| {
        let pushing = scope.spawn(|| hosts.exec(Host::Alpha, &["sh", "-c", &line]).status);
        let copying = wait_for(PATIENCE, || subject.text("said").contains("pre-copy").then_some(()));
        assert!(copying.is_some(), "{}", subject.text("said"));
        let cli = format!("kill -INT $(pgrep -f '^migrate-cli push {} ')", subject.pid);
        hosts.must(Host::Alpha, &["sh", "-c", &cli]);
        pushing.join().expect("pushed")
    });
    assert_eq!(status.code(), Some(1), "{}", subject.text("said"));
    assert!(subject.text("said").contains("interrupted"), "{}", subject.text("said"));
    assert!(subject.runs_only(Host::Alpha));
    check(&subject);
}
