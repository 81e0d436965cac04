//! The report of `push`: what the time of standing still went to. No time is compared with a clock.

use std::fs;
use std::path::Path;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts};
use migrate_tests::moves::Report;
use migrate_tests::waiting::{wait_for, wait_for_file};

const PATIENCE: Duration = Duration::from_secs(30);

/// The report of a move with these options, and what was said beside it.
fn moves(hosts: &Hosts, options: &[&str]) -> (Report, String) {
    let program = Path::new(env!("OUT_DIR")).join("threads").display().to_string();
    let directory = tempfile::Builder::new().prefix("report").tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let mut subject = hosts.start(Host::Alpha, directory, &[&program, &path]);
    let ready = wait_for_file(&subject.path("ready"), PATIENCE);
    subject.pid = ready.and_then(|text| text.trim().parse().ok()).expect("it gets ready");
    let pushed = hosts.push(subject.pid, Host::Alpha, "beta", options);
    subject.host = Host::Beta;
    let said = pushed.stdout.clone();
    (pushed.moved().unwrap_or_else(|said| panic!("{options:?}: {said}")), said)
}

/// The names of `all` that are among `wanted`, in their order.
fn in_order<'a>(all: impl IntoIterator<Item = &'a String>, wanted: &[&str]) -> Vec<&'a str> {
    all.into_iter().map(String::as_str).filter(|name| wanted.contains(name)).collect()
}

#[test]
fn the_report_attributes_every_microsecond_of_downtime_in_order() {
    let Some(hosts) = hosts!("the_report_attributes_every_microsecond_of_downtime_in_order") else { return };
    const STEPS: [&str; 7] = ["freeze", "final scan", "digest", "capture", "send", "apply", "resume"];
    for (options, steps) in
        [(&["-v"][..], STEPS.into_iter().filter(|s| *s != "digest").collect()), (&["-v", "--verify"], STEPS.to_vec())]
    {
        let (report, said) = moves(&hosts, options);
        let names: Vec<&str> = report.downtime.keys().map(String::as_str).collect();
        assert_eq!(names, steps, "{options:?}");
        assert_eq!(Some(report.standing_us()), report.downtime_us, "{:?}", report.downtime);
        // The same in the list of everything, behind what came before.
        let before = ["preflight", "pre-copy"];
        let all = [&before[..], &steps].concat();
        assert_eq!(in_order(report.phases.keys(), &all), all);
        for name in &steps {
            assert_eq!(report.phases[*name], report.downtime[*name], "{name}");
        }
        // The destination's part is told below the step that contains it.
        let there = in_order(report.phases.keys(), &["apply", "there: apply mappings", "there: write state", "resume"]);
        assert_eq!(there, ["apply", "there: apply mappings", "there: write state", "resume"]);
        // And to people.
        let lines: Vec<&str> =
            said.lines().map(|line| line.split("  ").find(|word| !word.is_empty()).unwrap_or("")).collect();
        let wanted = [&["stood still"], &steps[..]].concat();
        let shown: Vec<&str> =
            lines.into_iter().skip_while(|line| *line != "stood still").filter(|line| wanted.contains(line)).collect();
        assert_eq!(shown, wanted, "{said}");
    }
}

/// How many descriptors of this device there are in all processes.
fn open_everywhere(device: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("/proc is there").flatten();
    let descriptors =
        processes.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten());
    descriptors.filter(|one| fs::read_link(one.path()).is_ok_and(|to| to == Path::new(device))).count()
}

#[test]
fn the_cpus_are_kept_awake_no_longer_than_it_stands() {
    let Some(hosts) = hosts!("the_cpus_are_kept_awake_no_longer_than_it_stands") else { return };
    const DEVICE: &str = "/dev/cpu_dma_latency";
    let before = open_everywhere(DEVICE);
    moves(&hosts, &[]);
    // The answer is on its way before the destination lets go of it.
    let let_go = wait_for(PATIENCE, || (open_everywhere(DEVICE) == before).then_some(()));
    assert!(let_go.is_some(), "{DEVICE} is still open");
}
