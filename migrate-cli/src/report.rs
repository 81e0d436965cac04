//! The end of a push, for people and for programs.

use std::fmt::Write;

use indicatif::{HumanBytes, HumanCount};
use migrate_core::phase::{Outcome, PageCounts, Report, Throttled, Timing, display_duration};
use migrate_core::plan::Plan;
use serde_json::{Map, Value, json};

/// The report of a move that was refused before it began, or of which no more is known than `outcome`.
pub fn bare_report(plan: &Plan, outcome: Outcome) -> Report {
    Report {
        outcome,
        pid: plan.pid,
        pid_there: None,
        name: name_of(plan.pid),
        host: plan.host.clone(),
        downtime_us: None,
        total_us: 0,
        bytes_sent: 0,
        compressed_from: 0,
        compressed_to: 0,
        pages: PageCounts::default(),
        rounds: Vec::new(),
        phases: Vec::new(),
        tracker: "none".into(),
        kernel_state: "ptrace".into(),
        clock: "same".into(),
        throttled: None,
        verified: false,
        measured: None,
        warnings: Vec::new(),
    }
}

/// The program's name (proc_pid_comm(5)), as far as it can be read.
fn name_of(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    match String::from_utf8_lossy(bytes.trim_ascii_end()) {
        name if name.is_empty() => "?".into(),
        name => name.into_owned(),
    }
}

/// What scripts read. The names are promised: none goes, none changes its meaning.
pub fn json(report: &Report) -> Value {
    let (outcome, reason) = match &report.outcome {
        Outcome::Moved => ("moved", None),
        Outcome::StayedHere { why } => ("stayed", Some(why)),
        // It was not moved: that is what scripts want to know first.
        Outcome::Ended { why } => ("stayed", Some(why)),
        Outcome::InDoubt { why } => ("in-doubt", Some(why)),
    };
    json!({
        "outcome": outcome,
        "pid": report.pid,
        "host": report.host,
        "reason": reason,
        "downtime_us": report.downtime_us,
        "downtime_probed_us": report.measured.map(|measured| measured.us),
        "downtime_probed_error_us": report.measured.map(|measured| measured.error_us),
        "total_us": report.total_us,
        "bytes_sent": report.bytes_sent,
        "compressed_from": report.compressed_from,
        "compressed_to": report.compressed_to,
        "pages_sent": report.pages.sent,
        "rounds": report.rounds,
        "phases": by_name(report.phases.iter()),
        "downtime": by_name(report.phases.iter().filter(|t| t.frozen && !t.part)),
        "tracker": report.tracker,
        "kernel_state": report.kernel_state,
        "clock": report.clock,
        "throttle": report.throttled,
        "verified": report.verified,
        "warnings": report.warnings,
    })
}

/// In the order in which they happened.
fn by_name<'a>(timings: impl Iterator<Item = &'a Timing>) -> Map<String, Value> {
    let mut named = Map::new();
    for timing in timings {
        // A step may come more than once, as a round of copying does.
        let before = named.get(&timing.name).and_then(Value::as_u64).unwrap_or(0);
        named.insert(timing.name.clone(), before.saturating_add(timing.us).into());
    }
    named
}

const STOOD: &str = "stood still";

fn indentation(timing: &Timing) -> &'static str {
    match (timing.frozen, timing.part) {
        (false, _) => "",
        (true, false) => "  ",
        (true, true) => "    ",
    }
}

/// Where the time went and what was sent.
pub fn details(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{arguments}");
    };
    let name = |t: &Timing| format!("{}{}", indentation(t), t.name);
    let width = report.phases.iter().map(|t| name(t).chars().count()).max().unwrap_or(0).max(STOOD.len());
    let mut told = false;
    for timing in &report.phases {
        if timing.frozen && !std::mem::replace(&mut told, true) {
            let downtime = report.downtime_us.unwrap_or(0);
            line(format_args!("  {STOOD:width$}  {:>8}, of which", display_duration(downtime)));
        }
        // Steps of the downtime are short, and told so that they add up.
        let took = if timing.frozen { format!("{} µs", HumanCount(timing.us)) } else { display_duration(timing.us) };
        line(format_args!("  {:width$}  {took:>8}", name(timing)));
    }
    line(format_args!("  sent {}", HumanBytes(report.bytes_sent)));
    if report.compressed_from > 0 {
        let (from, to) = (HumanBytes(report.compressed_from), HumanBytes(report.compressed_to));
        line(format_args!("  of this, {to} are {from} compressed"));
    }
    line(format_args!(
        "  pages: {} sent, {} zero, {} not needed",
        HumanCount(report.pages.sent),
        HumanCount(report.pages.zero),
        HumanCount(report.pages.not_needed)
    ));
    for (number, round) in (1..).zip(&report.rounds) {
        let (pages, bytes) = (HumanCount(round.pages), HumanBytes(round.bytes));
        line(format_args!("  round {number}: {pages} pages, {bytes} in {}", display_duration(round.us)));
    }
    line(format_args!("  changed pages were found by: {}", report.tracker));
    line(format_args!("  what the kernel knows of threads was read by: {}", report.kernel_state));
    match report.clock.as_str() {
        "continued" => line(format_args!("  its clocks go on in a time namespace: the hosts' differ")),
        "host" => line(format_args!("  its clocks are the host's, and differ from those here")),
        _ => {}
    }
    if let Some(Throttled { percent, us, stood_us }) = report.throttled {
        let (us, stood) = (display_duration(us), display_duration(stood_us));
        line(format_args!("  slowed down by up to {percent} % for {us}, of which it stood {stood}"));
    }
    if report.verified {
        line(format_args!("  its memory was compared before it ran there, and was the same"));
    }
    text
}

#[cfg(test)]
mod tests {
    use migrate_core::phase::{Measured, Round};

    use super::*;

    fn report(outcome: Outcome) -> Report {
        let timing = |name: &str, us, frozen| Timing { name: name.into(), us, frozen, part: name.starts_with("there") };
        Report {
            outcome,
            pid: 4242,
            pid_there: Some(4242),
            name: "redis-server".into(),
            host: "hostb".into(),
            downtime_us: Some(6_300),
            total_us: 2_410_000,
            bytes_sent: 12_345_678,
            compressed_from: 0,
            compressed_to: 0,
            pages: PageCounts { sent: 3000, zero: 40, not_needed: 5 },
            rounds: vec![Round { pages: 2900, bytes: 11_000_000, us: 90_000 }, Round { pages: 100, bytes: 400, us: 5 }],
            phases: vec![
                timing("pre-copy", 90_000, false),
                timing("pre-copy", 5, false),
                timing("freeze", 300, true),
                timing("apply", 6_000, true),
                timing("there: descriptors", 5_000, true),
            ],
            tracker: "pagemap-scan".into(),
            kernel_state: "ebpf".into(),
            clock: "continued".into(),
            throttled: Some(Throttled { percent: 60, us: 1_300_000, stood_us: 700_000 }),
            verified: false,
            measured: None,
            warnings: vec!["careful".into()],
        }
    }

    #[test]
    fn golden_json() {
        let expected = json!({
            "outcome": "moved",
            "pid": 4242,
            "host": "hostb",
            "reason": null,
            "downtime_us": 6300,
            "downtime_probed_us": null,
            "downtime_probed_error_us": null,
            "total_us": 2410000,
            "bytes_sent": 12345678,
            "compressed_from": 0,
            "compressed_to": 0,
            "pages_sent": 3000,
            "rounds": [{"pages": 2900, "bytes": 11000000, "us": 90000}, {"pages": 100, "bytes": 400, "us": 5}],
            "phases": {"pre-copy": 90005, "freeze": 300, "apply": 6000, "there: descriptors": 5000},
            "downtime": {"freeze": 300, "apply": 6000},
            "tracker": "pagemap-scan",
            "kernel_state": "ebpf",
            "clock": "continued",
            "throttle": {"percent": 60, "us": 1300000, "stood_us": 700000},
            "verified": false,
            "warnings": ["careful"],
        });
        let value = json(&report(Outcome::Moved));
        assert_eq!(value, expected);
        let text = value.to_string();
        assert!(!text.contains('\n'));
        // Not by the alphabet.
        let order =
            ["\"pre-copy\":", "\"freeze\":", "\"apply\":", "\"there: descriptors\":"].map(|name| text.find(name));
        assert!(order.is_sorted() && order[0].is_some(), "{text}");
    }

    #[test]
    fn a_reason_is_given_when_it_did_not_move() {
        let stayed = json(&report(Outcome::StayedHere { why: "fd 7".into() }));
        assert_eq!((&stayed["outcome"], &stayed["reason"]), (&json!("stayed"), &json!("fd 7")));
        let ended = report(Outcome::Ended { why: "it has ended".into() });
        assert_eq!((&json(&ended)["outcome"], &json(&ended)["reason"]), (&json!("stayed"), &json!("it has ended")));
        assert!(ended.sentence().ends_with("was not moved: it has ended") && ended.exit_status() == 1);
        let doubt = json(&report(Outcome::InDoubt { why: "silence".into() }));
        assert_eq!((&doubt["outcome"], &doubt["reason"]), (&json!("in-doubt"), &json!("silence")));
        let plan = Plan { pid: i32::MAX, host: "h".into(), options: Default::default() };
        let bare = bare_report(&plan, Outcome::StayedHere { why: "no".into() });
        assert_eq!((json(&bare)["downtime_us"].clone(), bare.name.as_str()), (Value::Null, "?"));
    }

    #[test]
    fn the_details_are_lines() {
        let expected = "  \
  pre-copy                   90 ms
  pre-copy                  0.0 ms
  stood still               6.3 ms, of which
    freeze                  300 µs
    apply                 6,000 µs
      there: descriptors  5,000 µs
  sent 11.77 MiB
  pages: 3,000 sent, 40 zero, 5 not needed
  round 1: 2,900 pages, 10.49 MiB in 90 ms
  round 2: 100 pages, 400 B in 0.0 ms
  changed pages were found by: pagemap-scan
  what the kernel knows of threads was read by: ebpf
  its clocks go on in a time namespace: the hosts' differ
  slowed down by up to 60 % for 1.30 s, of which it stood 700 ms
";
        assert_eq!(details(&report(Outcome::Moved)), expected);
        let compressed = Report { compressed_from: 3 << 20, compressed_to: 1 << 20, ..report(Outcome::Moved) };
        assert!(details(&compressed).contains("  of this, 1.00 MiB are 3.00 MiB compressed\n"));
        let probed = Report { measured: Some(Measured { us: 6_101, error_us: 80 }), ..report(Outcome::Moved) };
        assert!(probed.sentence().ends_with("; it stood still for 6.3 ms (6.10 ± 0.08 ms by the schedulers)"));
        let probed = json(&probed);
        assert_eq!((&probed["downtime_probed_us"], &probed["downtime_probed_error_us"]), (&json!(6101), &json!(80)));
        let verified = details(&Report { verified: true, ..report(Outcome::Moved) });
        assert_eq!(
            verified.strip_prefix(expected),
            Some("  its memory was compared before it ran there, and was the same\n")
        );
    }
}
