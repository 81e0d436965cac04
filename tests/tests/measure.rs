//! `push --measure`: the downtime as the schedulers saw it, against what the process itself and the agents say of the same move.
//!
//! Two bounds hold whatever the clock does. While the agents read and send what has been stopped, no thread runs, so the figure is no
//! less than the steps between the freeze and the resumption. And a process that looks at the clock has looked before it was stopped and
//! looks again after it goes on, so the figure is no more than it sees.
//!
//! By how much more it sees has no such bound: on a busy machine a thread that was taken off its processor is stopped before it gets on
//! one again, and one that goes on is taken off before it looks at the clock. So `LEEWAY` is many times what that takes here.

use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started, skipped};
use migrate_tests::moves::Report;
use migrate_tests::waiting::{wait_for, wait_for_file};

const PATIENCE: Duration = Duration::from_secs(30);
const PYTHON: &str = "/usr/bin/python3";
const MOVES: usize = 6;
/// Microseconds.
const LEEWAY: u64 = 50_000;

/// It looks on which host it is, then at the clock, again and again, sleeping for so many seconds in between. When the host is another
/// one than at the last look, it has moved after the last look but one at the clock, and before this one: so many microseconds are noted.
const LOOKS: &str = "\
import os, sys, time
pause = float(sys.argv[1])
seen = open('seen', 'w', buffering=1)
before, last, host = time.monotonic_ns(), time.monotonic_ns(), os.uname().nodename
open('ready', 'w').close()
while True:
    if pause: time.sleep(pause)
    here, now = os.uname().nodename, time.monotonic_ns()
    if here != host: print((now - before) // 1000, file=seen)
    before, last, host = last, now, here";

fn start<'h>(hosts: &'h Hosts, program: &str, argument: &str) -> Started<'h> {
    let directory = tempfile::Builder::new().prefix("measure").tempdir().expect("a directory");
    let started = hosts.start(Host::Alpha, directory, &[PYTHON, "-S", "-B", "-c", program, argument]);
    assert!(wait_for_file(&started.path("ready"), PATIENCE).is_some(), "{}", started.said());
    started
}

/// What the schedulers saw, microseconds, after it has been compared with what the agents say. Err: why this kernel does not permit it.
fn probed(report: &Report) -> Result<u64, String> {
    let Some(probed) = report.downtime_probed_us else {
        let why = report.warnings.iter().find(|warning| warning.contains("cannot be loaded"));
        return Err(why.unwrap_or_else(|| panic!("no figure, and not for want of the probe: {report:?}")).clone());
    };
    // Both hosts are on one machine.
    assert_eq!(report.downtime_probed_error_us, Some(0));
    let step = |name: &str| report.downtime.get(name).and_then(serde_json::Value::as_u64).expect(name);
    let stood = report.downtime_us.expect("it stood still");
    let at_least = stood - step("freeze") - step("resume");
    // Steps are told in whole microseconds.
    assert!(at_least <= probed + 1, "the schedulers saw {probed} µs, the agents no less than {at_least}: {report:?}");
    assert!(probed <= stood + LEEWAY, "the schedulers saw {probed} µs, the agents {stood}: {report:?}");
    Ok(probed)
}

#[test]
fn the_schedulers_agree_with_what_the_process_sees() {
    const NAME: &str = "the_schedulers_agree_with_what_the_process_sees";
    let Some(hosts) = hosts!(NAME, &[PYTHON]) else { return };
    for (what, pause_us) in [("at work all the time", 0), ("asleep for a millisecond at a time", 1000)] {
        let mut started = start(&hosts, LOOKS, &format!("{}e-6", pause_us));
        for number in 1..=MOVES {
            let report = started.move_over_with(&["--measure"]).unwrap_or_else(|why| panic!("{what}: {why}"));
            let probed = match probed(&report) {
                Ok(probed) => probed,
                Err(why) => return skipped(NAME, &why),
            };
            let seen = || started.text("seen").lines().nth(number - 1)?.parse::<u64>().ok();
            let seen = wait_for(PATIENCE, seen).unwrap_or_else(|| panic!("{what}: {}", started.said()));
            let whole = format!("{what}, move {number}: the schedulers saw {probed} µs, the process {seen}");
            println!("{whole}; the agents {:?}", report.downtime_us);
            // Two pauses are in what it sees: it may have been stopped at the begin of one, and goes on with it.
            assert!(probed <= seen && seen <= probed + 2 * pause_us + LEEWAY, "{whole}; {report:?}");
        }
    }
}

#[test]
fn of_a_process_that_sleeps_the_sleep_does_not_count() {
    const NAME: &str = "of_a_process_that_sleeps_the_sleep_does_not_count";
    let Some(hosts) = hosts!(NAME, &[PYTHON]) else { return };
    let mut started = start(&hosts, "import time\nopen('ready', 'w').close()\ntime.sleep(3600)", "");
    for _ in 0..2 {
        let report = started.move_over_with(&["--measure"]).unwrap_or_else(|why| panic!("{why}"));
        if let Err(why) = probed(&report) {
            return skipped(NAME, &why);
        }
    }
    // And people are told.
    let to = started.host.other().to_string();
    let pushed = hosts.push(started.pid, started.host, &to, &["--measure"]);
    started.host = started.host.other();
    let said = pushed.stdout.clone();
    let report = pushed.moved().unwrap_or_else(|why| panic!("{why}"));
    let figure = format!(" ({:.2} ms by the schedulers)", probed(&report).expect("a figure") as f64 / 1e3);
    assert!(said.contains(&figure), "no {figure:?} in {said}");
    // Nobody has asked.
    let plain = started.move_over().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((plain.downtime_probed_us, plain.downtime_probed_error_us), (None, None));
    assert!(!plain.warnings.iter().any(|warning| warning.contains("schedulers")), "{:?}", plain.warnings);
}

/// The kernel's description of itself, without which no probe can be loaded, hidden in one host.
struct Hidden<'h>(&'h Hosts, Host);

const DESCRIPTION: &str = "/sys/kernel/btf/vmlinux";

impl<'h> Hidden<'h> {
    fn begin(hosts: &'h Hosts, host: Host) -> Hidden<'h> {
        hosts.must(host, &["mount", "--bind", "/dev/null", DESCRIPTION]);
        Hidden(hosts, host)
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        self.0.exec(self.1, &["umount", DESCRIPTION]);
    }
}

#[test]
fn where_a_host_does_not_permit_it_the_process_moves_and_the_report_says_so() {
    const NAME: &str = "where_a_host_does_not_permit_it_the_process_moves_and_the_report_says_so";
    let Some(hosts) = hosts!(NAME, &[PYTHON]) else { return };
    if !std::path::Path::new(DESCRIPTION).exists() {
        return skipped(NAME, "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)");
    }
    let mut started = start(&hosts, LOOKS, "0.001");
    let hidden = Hidden::begin(&hosts, Host::Beta);
    for side in [
        "on beta the probe for the downtime cannot be loaded",
        "on this host the probe for the downtime cannot be loaded",
    ] {
        let report = started.move_over_with(&["--measure"]).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((report.downtime_probed_us, report.downtime_probed_error_us), (None, None));
        let wanted = format!("its downtime was not measured by the schedulers: {side}");
        assert!(report.warnings.iter().any(|warning| warning.starts_with(&wanted)), "no {wanted:?}: {report:?}");
        assert!(started.runs_only(started.host), "{}", started.said());
    }
    drop(hidden);
    let report = started.move_over_with(&["--measure"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(probed(&report).is_ok() || !report.warnings.is_empty());
}
