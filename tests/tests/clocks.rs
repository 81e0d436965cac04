//! Processes whose clocks are not those of the host that they move to.
//!
//! Both hosts of the tests have one kernel and so the same clocks: instead the process begins in a time namespace.

use std::fs;
use std::path::Path;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started, skipped};
use migrate_tests::waiting::{wait_for, wait_for_file};

const PATIENCE: Duration = Duration::from_secs(30);

/// A subject in alpha whose clocks are a day and two days ahead. None: that cannot be had here, which has been said.
fn start<'h>(hosts: &'h Hosts, name: &str) -> Option<Started<'h>> {
    if !Path::new("/proc/self/timens_offsets").exists() {
        skipped(name, "this kernel has no time namespaces (CONFIG_TIME_NS)");
        return None;
    }
    let program = Path::new(env!("OUT_DIR")).join(name).display().to_string();
    let directory = tempfile::Builder::new().prefix(name).tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let ahead = ["unshare", "--time", "--monotonic", "86400", "--boottime", "172800", &program, &path];
    let mut subject = hosts.start(Host::Alpha, directory, &ahead);
    let begun = || ["ready", "result"].iter().any(|file| subject.path(file).exists()).then_some(());
    assert!(wait_for(PATIENCE, begun).is_some(), "{name} does not get ready: {}", subject.text("stderr"));
    subject.pid = subject.text("ready").trim().parse().expect("a PID");
    assert_eq!(offsets(&subject), [86400, 172_800], "it has other clocks from the beginning");
    Some(subject)
}

/// Seconds that the monotonic clock and that since the boot are ahead of the host's.
fn offsets(subject: &Started<'_>) -> [i64; 2] {
    let text = subject.hosts.must(subject.host, &["cat", &format!("/proc/{}/timens_offsets", subject.pid)]);
    let seconds = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    };
    [seconds("monotonic"), seconds("boottime")]
}

fn is_right(subject: &Started<'_>) {
    fs::write(subject.path("check"), "").expect("a file");
    let result = wait_for_file(&subject.path("result"), PATIENCE);
    let result = result.unwrap_or_else(|| panic!("it does not check itself: {}", subject.said()));
    assert_eq!(result.trim(), "ok");
}

fn go_on(name: &str) {
    let Some(hosts) = hosts!(name) else { return };
    let Some(mut subject) = start(&hosts, name) else { return };
    for _ in 0..4 {
        let report = subject.move_over().unwrap_or_else(|said| panic!("{name}: {said}"));
        assert_eq!(report.clock, "continued");
        assert_eq!(offsets(&subject), [86400, 172_800]);
    }
    is_right(&subject);
}

#[test]
fn clocks_go_on() {
    go_on("clocks");
}

#[test]
fn clocks_go_on_in_a_pid_namespace() {
    let Some(hosts) = hosts!("clocks_go_on_in_a_pid_namespace") else { return };
    let Some(mut subject) = start(&hosts, "clocks") else { return };
    let pushed = hosts.push(subject.pid, Host::Alpha, "beta", &["--pid", "namespace"]);
    let report = pushed.moved().unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(report.clock, "continued");
    subject.host = Host::Beta;
    is_right(&subject);
}

#[test]
fn the_vdso_and_the_kernel_agree_on_them() {
    go_on("vdso");
}

#[test]
fn who_waits_for_a_moment_wakes_up_then() {
    go_on("call_clock_nanosleep_absolute");
}

#[test]
fn clocks_of_the_host_when_wanted() {
    let Some(hosts) = hosts!("clocks_of_the_host_when_wanted") else { return };
    let Some(mut subject) = start(&hosts, "clocks") else { return };
    let pushed = hosts.push(subject.pid, Host::Alpha, "beta", &["--pid", "keep", "--clock", "host"]);
    let report = pushed.moved().unwrap_or_else(|said| panic!("{said}"));
    subject.host = Host::Beta;
    assert_eq!(report.clock, "host");
    assert!(report.warnings.iter().any(|w| w.contains("jumps by -86400")), "{:?}", report.warnings);
    // It sees that, and ends.
    let said = wait_for_file(&subject.path("result"), PATIENCE).unwrap_or_default();
    assert!(said.contains("jumped by -86"), "{said}");
}
